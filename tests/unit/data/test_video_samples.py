"""Clips in samples, shards and corpora, beside pictures and text."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.data import (
    DataConfig,
    MovingEmojiSource,
    PhysicsSource,
    RetrievalConfig,
    ScenesSource,
    ShardsSource,
    VideosSource,
)
from genvlm.config.syntax import SyntaxConfig
from genvlm.data import sharding
from genvlm.data.corpus import Corpus, build_corpus
from genvlm.data.sharding import Walk, tokenise, write_shards
from genvlm.data.sources import Reading, Sample, Visual, read_source
from genvlm.data.tokenising import Tokenizers
from genvlm.errors import ConfigError, DataError
from genvlm.models.pretrained import build_vocabulary
from genvlm.testing.corpora import corpus_of
from genvlm.testing.files import write_files
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_text_tokenizer, tiny_video_tokenizer
from genvlm.testing.videos import timed_video_bytes
from genvlm.tokenization.document import Document, Image, Text, Video, count_tokens, encode_document
from genvlm.tokenization.video import VideoTokenizer

TEXT, IMAGE, VIDEO = tiny_text_tokenizer(), tiny_image_tokenizer(), tiny_video_tokenizer()
TOKENIZERS = Tokenizers(text=TEXT, image=IMAGE, video=VIDEO)
PHYSICS = PhysicsSource(num=3, num_frames=9)
MIXED = DataConfig(
    sources=(PHYSICS, ScenesSource(num=2), MovingEmojiSource(num=2, num_frames=5)),
    condition_dropout=0.0,
)
PLAIN = replace(MIXED, image_first=0.0)


def frames_of(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 16, 16, 3), np.uint8)


def give(monkeypatch: pytest.MonkeyPatch, *samples: tuple[Sample, list[Visual]]) -> None:
    """Let any source give these samples."""

    def read(*_: object) -> list[Reading]:
        return [Reading(sample, lambda v=visuals: v) for sample, visuals in samples]

    monkeypatch.setattr(sharding, "read_source", read)


def tokenised(max_bad_share: float = 0.0) -> tuple[Corpus, Walk]:
    walk = Walk([(0, PHYSICS)], max_bad_share, lambda done, total: None)
    shards = [filled.shard for filled in tokenise(walk, TOKENIZERS)]
    return Corpus(shards, [""] * len(shards), [range(sum(map(len, shards)))], []), walk


def document(corpus: Corpus, index: int) -> Document:
    return corpus.document(index, PLAIN, 0, 0)


def test_clips_of_a_source_become_pairs_of_a_caption_and_their_codes() -> None:
    told: list[tuple[int, int]] = []
    corpus = build_corpus(MIXED, TOKENIZERS, None, lambda *now: told.append(now))
    assert told[-1] == (7, 7)
    assert (corpus.num_videos, corpus.num_pictures) == (5, 2)
    assert [len(s) for s in corpus.sources] == [3, 2, 2]
    for source, start, latents in ((PHYSICS, 0, 3), (MIXED.sources[2], 5, 2)):
        readings = list(read_source(source, "x"))
        codes = VIDEO.encode([r.visuals()[0] for r in readings])
        for index, reading in enumerate(readings, start):
            text, video = document(corpus, index).segments
            assert isinstance(text, Text)
            assert isinstance(video, Video)
            assert text.text == reading.sample.segments[0]
            assert video.codes.shape == (latents, 4, 4)
            np.testing.assert_array_equal(video.codes, codes[index - start])
    pictures = [document(corpus, i).segments[1] for i in (3, 4)]
    assert all(isinstance(p, Image) for p in pictures)
    np.testing.assert_array_equal(corpus.codes, [p.codes for p in pictures])


def test_a_pair_shows_its_clip_first_or_last_and_drops_its_condition() -> None:
    corpus = build_corpus(replace(MIXED, sources=(PHYSICS,)), TOKENIZERS, None)
    config = replace(MIXED, image_first=0.5, condition_dropout=0.3)
    seen = {
        tuple(type(s) for s in corpus.document(0, config, 0, epoch).segments) for epoch in range(60)
    }
    assert seen == {(Text, Video), (Video, Text), (Text,), (Video,)}


def test_a_document_may_hold_a_picture_and_clips_of_several_lengths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip, picture, short = frames_of(9), frames_of(1)[0], frames_of(5, seed=1)
    single = frames_of(1, seed=2)
    sample = Sample("d", (0, "then", 1, 2, "end", 3, 0), "document", loss=(True,) * 6 + (False,))
    give(monkeypatch, (sample, [clip, picture, short, single]))
    corpus, _ = tokenised()
    made = document(corpus, 0)
    kinds = [type(s) for s in made.segments]
    assert kinds == [Video, Text, Image, Video, Text, Video, Video]
    shapes = [s.codes.shape for s in made.segments if not isinstance(s, Text)]
    assert shapes == [(3, 4, 4), (4, 4), (2, 4, 4), (1, 4, 4), (3, 4, 4)]
    assert list(made.loss or ()) == [*[True] * 6, False]
    np.testing.assert_array_equal(made.segments[2].codes, IMAGE.encode([picture])[0])
    assert corpus.samples[0].segments == (0, "then", 1, 2, "end", 3, 0)
    for sized, control in ((False, 2), (True, 4)):
        expected = 2 + (48 + 2) + 1 + (16 + control) + (32 + 2) + 1 + (16 + 2) + (48 + 2)
        assert len(TEXT.encode("then")) + len(TEXT.encode("end")) - 2 == (
            corpus.token_lengths(sized=sized)[0] - expected
        )
        counted = count_tokens(made, TEXT, sized_images=sized)
        assert corpus.token_lengths(sized=sized).tolist() == [counted]
    assert corpus.rough_lengths.tolist() == [1 + 0 + 70 + 48 + 32 + 16 + 48]


def test_equal_clips_are_encoded_once_and_a_clip_of_one_frame_is_no_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[int] = []
    encode = VideoTokenizer.encode

    def counting(self: VideoTokenizer, clips: list[np.ndarray]) -> list[np.ndarray]:
        encoded.extend(len(clip) for clip in clips)
        return encode(self, clips)

    monkeypatch.setattr(VideoTokenizer, "encode", counting)
    one = frames_of(1)
    rows = [("a", [frames_of(5)]), ("b", [frames_of(5)]), ("c", [one]), ("d", [one[0]])]
    give(monkeypatch, *((Sample(i, (i, 0), "pair"), v) for i, v in rows))
    corpus, _ = tokenised()
    assert sorted(encoded) == [1, 5]
    assert [s.segments[1] for s in corpus.samples] == [0, 0, 1, 2]
    assert [type(document(corpus, i).segments[1]) for i in range(4)] == [Video, Video, Video, Image]


def test_clips_keep_their_grid_beside_pictures_of_any_size() -> None:
    tokenizers = replace(TOKENIZERS, max_side=3)
    corpus = build_corpus(replace(MIXED, sources=MIXED.sources[:2]), tokenizers, None)
    shapes = [document(corpus, i).segments[1].codes.shape for i in range(5)]
    assert shapes == [(3, 4, 4)] * 3 + [(3, 3)] * 2
    syntax = SyntaxConfig(max_side=3)
    vocabulary = build_vocabulary(TEXT, IMAGE, syntax, VIDEO)
    for index, length in enumerate(corpus.token_lengths(sized=True)):
        encoded = encode_document(document(corpus, index), vocabulary, TEXT, grid=IMAGE.grid)
        assert len(encoded.token_ids) == length


def test_few_frames_wait_to_be_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    encode = Tokenizers.encode

    def counting(self: Tokenizers, visuals: list[np.ndarray]) -> list[np.ndarray]:
        waited.append(sum(len(v) for v in visuals))
        return encode(self, visuals)

    monkeypatch.setattr(Tokenizers, "encode", counting)
    monkeypatch.setattr(sharding, "CHUNK", 20)
    clips = [(Sample(str(i), (0,), "document"), [frames_of(9, seed=i)]) for i in range(7)]
    give(monkeypatch, *clips)
    tokenised()
    assert waited == [27, 27, 9]


def test_shards_of_clips_are_written_and_read_bit_for_bit(tmp_path: Path) -> None:
    sources = list(enumerate(MIXED.sources))
    index = write_shards(sources, TOKENIZERS, tmp_path / "a", samples_per_shard=3)
    again = write_shards(sources, TOKENIZERS, tmp_path / "b", samples_per_shard=3)
    assert [s.sha256 for s in index.shards] == [s.sha256 for s in again.shards]
    assert [(s.pictures, s.videos) for s in index.shards] == [(0, 3), (2, 1), (0, 1)]
    assert index.summary()["videos"] == 5
    config = replace(PLAIN, sources=(ShardsSource(path=str(tmp_path / "a")),))
    sharded, direct = (build_corpus(c, TOKENIZERS, None) for c in (config, MIXED))
    for number in range(len(direct)):
        ours, theirs = (document(c, number).segments for c in (sharded, direct))
        assert ours[0].text == theirs[0].text
        assert type(ours[1]) is type(theirs[1])
        np.testing.assert_array_equal(ours[1].codes, theirs[1].codes)


def test_clips_that_were_cut_off_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [(0, PhysicsSource(num=5, num_frames=5))]
    whole = write_shards(sources, TOKENIZERS, tmp_path / "whole", samples_per_shard=2)
    encode, told = VideoTokenizer.encode, list[tuple[int, int]]()

    def dying(self: VideoTokenizer, clips: list[np.ndarray]) -> list[np.ndarray]:
        if (tmp_path / "cut" / "shard-00000.safetensors").is_file():
            raise KeyboardInterrupt
        return encode(self, clips)

    monkeypatch.setattr(VideoTokenizer, "encode", dying)
    with pytest.raises(KeyboardInterrupt):
        write_shards(sources, TOKENIZERS, tmp_path / "cut", samples_per_shard=2)
    monkeypatch.setattr(VideoTokenizer, "encode", encode)
    index = write_shards(
        sources, TOKENIZERS, tmp_path / "cut", samples_per_shard=2,
        progress=lambda *now: told.append(now),
    )  # fmt: skip
    assert [s.sha256 for s in index.shards] == [s.sha256 for s in whole.shards]
    assert told == [(2, 5), (4, 5), (4, 5), (5, 5), (5, 5)]


@pytest.mark.parametrize(
    ("written", "run", "said"),
    [
        (VIDEO, None, "another video tokenizer: set tokenizers.video to it, or run"),
        (VIDEO, tiny_video_tokenizer(frames_per_latent=2), "another video tokenizer: run"),
        (None, VIDEO, "another configuration, without a video tokenizer: run"),
    ],
)
def test_shards_of_another_video_tokenizer_are_refused(
    tmp_path: Path, written: VideoTokenizer | None, run: VideoTokenizer | None, said: str
) -> None:
    scenes = [(0, ScenesSource(num=2))]
    write_shards(scenes, replace(TOKENIZERS, video=written), tmp_path / "tokens")
    config = DataConfig(sources=(ShardsSource(path=str(tmp_path / "tokens")),))
    with pytest.raises(DataError, match=said):
        build_corpus(config, replace(TOKENIZERS, video=run), None)


@pytest.mark.parametrize("source", [PHYSICS, VideosSource(path="nowhere", num_frames=9)])
def test_sources_of_clips_need_a_video_tokenizer(source: PhysicsSource | VideosSource) -> None:
    config = DataConfig(sources=(ScenesSource(num=1), source))
    said = rf"^data\.sources\.1, of kind {source.kind}, holds videos: set tokenizers\.video to"
    with pytest.raises(ConfigError, match=said):
        build_corpus(config, replace(TOKENIZERS, video=None), None)


def test_a_number_of_frames_that_does_not_fit_is_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    source = VideosSource(path="nowhere", num_frames=10)  # which would be refused if it was read
    said = r"^data\.sources\.0\.num_frames: 10 frames do not fit .* 1 \+ 4 k: give it 9 or 13"
    with pytest.raises(ConfigError, match=said):
        build_corpus(DataConfig(sources=(source,)), TOKENIZERS, tmp_path)
    with pytest.raises(ConfigError, match=said):
        write_shards([(0, source)], TOKENIZERS, tmp_path / "tokens")
    assert not list(tmp_path.iterdir())


def test_a_clip_whose_length_does_not_fit_is_named_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = [9, 10, 5, 9]
    clips = [frames_of(n, seed=i) for i, n in enumerate(lengths)]
    give(monkeypatch, *((Sample(f"clip {i}", (0,), "document"), [c]) for i, c in enumerate(clips)))
    with pytest.raises(DataError, match=r"^document 'clip 1': 10 frames do not fit"):
        tokenised()
    corpus, walk = tokenised(max_bad_share=0.5)
    assert [corpus.id(i) for i in range(len(corpus))] == ["clip 0", "clip 2", "clip 3"]
    assert walk.skips.num_skipped == 1
    assert walk.skips.examples[0].reason.startswith("document 'clip 1': 10 frames do not fit")


def test_own_codes_of_videos_may_be_more_than_those_of_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = tiny_video_tokenizer(codebook_size=100_000, seed=1)
    tokenizers = replace(TOKENIZERS, video=many)
    corpus = build_corpus(replace(MIXED, sources=(PHYSICS,)), tokenizers, None)
    (clip,) = next(iter(read_source(PHYSICS, "x"))).visuals()
    expected = many.encode([clip])[0]
    assert expected.max() >= 2**16
    np.testing.assert_array_equal(document(corpus, 0).segments[1].codes, expected)


def test_what_is_retrieved_for_a_clip_is_no_copy_of_it() -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 16, (2, 4, 4)) for _ in range(3)] + [rng.integers(0, 16, (4, 4))]
    near = codes[0].copy()
    near[0, 0, 0] += 1
    captions = ["a red ball falls", "red ball", "the ball falls", "a red ball", "ball that falls"]
    samples = [Sample(str(i), (text, i), "pair") for i, text in enumerate(captions)]
    corpus = corpus_of(samples, [codes[0], near, codes[1], codes[3], codes[2]])
    config = replace(PLAIN, retrieval=RetrievalConfig(num_documents=9, query_dropout=0))
    segments = corpus.document(0, config, 0, 0).segments
    texts = {s.text for s in segments if isinstance(s, Text)}
    assert texts == {"a red ball falls", "the ball falls", "a red ball", "ball that falls"}
    assert [isinstance(s, Text) for s in segments] == [True, False] * 4
    clip_first = corpus.document(0, replace(config, image_first=1.0), 0, 0).segments
    assert [isinstance(s, Text) for s in clip_first] == [False, True] * 4


def test_videos_of_a_folder_become_pairs_or_documents_of_their_own(tmp_path: Path) -> None:
    twelve, six = (timed_video_bytes(times=range(0, 40 * n, 40)) for n in (12, 6))
    files = {"a.mp4": twelve, "b.mp4": six, "b.txt": "a square moves", "c.mp4": b"no video"}
    write_files(tmp_path / "clips", files)
    source = VideosSource(path=str(tmp_path / "clips"), num_frames=5)
    index = write_shards(
        [(0, source)], TOKENIZERS, tmp_path / "tokens", samples_per_shard=2, max_bad_share=0.5
    )
    assert (index.num_samples, index.skipped) == (3, 1)
    config = replace(PLAIN, sources=(ShardsSource(path=str(tmp_path / "tokens")),))
    corpus = build_corpus(config, TOKENIZERS, None)
    made = {corpus.id(i): document(corpus, i).segments for i in range(3)}
    assert {name: [type(s) for s in segments] for name, segments in made.items()} == {
        "0-videos-a.mp4#0": [Video], "0-videos-a.mp4#1": [Video], "0-videos-b.mp4#0": [Text, Video]
    }  # fmt: skip
    assert made["0-videos-b.mp4#0"][0].text == "a square moves"
    assert {s.codes.shape for segments in made.values() for s in segments[-1:]} == {(2, 4, 4)}

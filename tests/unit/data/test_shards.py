"""Token shards: the same bytes for the same sources, cut off or not, and none that does not fit."""

import fcntl
import json
import tarfile
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.data import (
    CaptionsSource,
    DataConfig,
    ScenesSource,
    ShardsSource,
    StoriesSource,
    WebDatasetSource,
)
from genvlm.config.schema import to_plain
from genvlm.data.corpus import build_corpus
from genvlm.data.images import save_image
from genvlm.data.sharding import write_shards
from genvlm.data.shards import map_shard, open_shards, read_index
from genvlm.data.tokenising import Tokenizers
from genvlm.errors import DataError, ImageError, StorageError, TokenError
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_pairs,
    tiny_text_tokenizer,
    write_tiny_captions,
)
from genvlm.tokenization.document import Image
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.text import train_sentencepiece

TOKENIZERS = Tokenizers(text=tiny_text_tokenizer(), image=tiny_image_tokenizer())
SCENES = ScenesSource(num=40)
GENERATED = [(0, SCENES), (1, StoriesSource(num=5))]


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def _shard(folder: Path, sources=GENERATED, size: int = 10, **options) -> dict[str, bytes]:
    write_shards(sources, TOKENIZERS, folder, samples_per_shard=size, **options)
    return _files(folder)


def _trains_from(folder: Path, *others) -> DataConfig:
    return DataConfig(sources=(ShardsSource(path=str(folder)), *others))


def test_shards_hold_what_the_sources_gave(tmp_path: Path) -> None:
    config = DataConfig(sources=tuple(s for _, s in GENERATED))
    direct = build_corpus(config, TOKENIZERS, None)
    _shard(tmp_path)
    sharded = build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    assert len(sharded.shards) == 5
    assert [s.id for s in sharded.samples] == [s.id for s in direct.samples]
    for index in range(len(direct)):
        for epoch in range(3):
            ours, theirs = (c.document(index, config, 0, epoch) for c in (sharded, direct))
            assert ours.id == theirs.id
            assert list(ours.loss or ()) == list(theirs.loss or ())
            for a, b in zip(ours.segments, theirs.segments, strict=True):
                assert type(a) is type(b)
                if isinstance(a, Image):
                    assert a.codes.tolist() == b.codes.tolist()
                else:
                    assert a.text == b.text


def test_pieces_are_those_of_the_text_tokenizer_and_texts_are_kept(tmp_path: Path) -> None:
    _shard(tmp_path)
    corpus = build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    texts = 0
    for shard in corpus.shards:
        for number in range(len(shard.arrays["text_offsets"]) - 1):
            text = shard.text(number)
            assert list(text.pieces) == TOKENIZERS.text.encode(text.text)
            texts += 1
    assert texts > 45


def test_lengths_are_known_without_making_documents(tmp_path: Path) -> None:
    _shard(tmp_path)
    corpus = build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    for index, (tokens, rough) in enumerate(
        zip(corpus.token_lengths(sized=False), corpus.rough_lengths, strict=True)
    ):
        segments = corpus.samples[index].segments
        texts = [s for s in segments if isinstance(s, str)]
        num_pictures = len(segments) - len(texts)
        pieces = sum(len(TOKENIZERS.text.encode(t)) for t in texts)
        assert tokens == 2 + pieces + 18 * num_pictures
        assert rough == sum(len(t) // 4 for t in texts) + 70 * num_pictures


def test_characters_rather_than_bytes_make_the_rough_length(tmp_path: Path) -> None:
    write_tiny_captions(tmp_path / "pairs")
    listed = tmp_path / "pairs" / "captions.jsonl"
    listed.write_text('{"image": "0.png", "text": "żółć 🐄 naïve — ok"}\n', encoding="utf-8")
    config = DataConfig(sources=(CaptionsSource(path=str(tmp_path / "pairs")),))
    corpus = build_corpus(config, TOKENIZERS, None)
    assert corpus.rough_lengths.tolist() == [len("żółć 🐄 naïve — ok") // 4 + 70]


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first = _shard(tmp_path / "a")
    assert _shard(tmp_path / "b") == first
    assert len(first) == 6
    assert _shard(tmp_path / "a") == first  # finished: nothing is done


@pytest.mark.parametrize("num_done", [1, 2, 4])
def test_what_was_cut_off_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_done: int
) -> None:
    whole = _shard(tmp_path / "whole")
    encode = ImageTokenizer.encode
    calls: list[int] = []

    def dying(self: ImageTokenizer, images: list[np.ndarray]) -> np.ndarray:
        calls.append(len(images))
        if len(calls) > num_done:
            raise KeyboardInterrupt
        return encode(self, images)

    monkeypatch.setattr(ImageTokenizer, "encode", dying)
    with pytest.raises(KeyboardInterrupt):
        _shard(tmp_path / "cut")
    left = {f"shard-{i:05d}.safetensors" for i in range(num_done)}
    assert set(_files(tmp_path / "cut")) == left | {"unfinished.json"}
    with pytest.raises(DataError, match="not finished: run the command"):
        build_corpus(_trains_from(tmp_path / "cut"), TOKENIZERS, None)
    (tmp_path / "cut" / "shard-00004.safetensors.tmp").write_bytes(b"half")
    calls.clear()
    monkeypatch.setattr(
        ImageTokenizer, "encode", lambda self, images: calls.append(1) or encode(self, images)
    )
    resumed = _shard(tmp_path / "cut")
    assert len(calls) == 5 - num_done, "what was whole is not encoded again"
    resumed.pop("shard-00004.safetensors.tmp", None)
    assert resumed == whole


def test_a_source_that_vanishes_midway_is_named_and_nothing_written_is_lost(
    tmp_path: Path,
) -> None:
    pairs = write_tiny_captions(tmp_path / "pairs")
    sources = [(0, CaptionsSource(path=str(pairs)))]
    whole = _shard(tmp_path / "whole", sources, 4)
    (pairs / "9.png").rename(tmp_path / "9.png")
    with pytest.raises(ImageError, match=r"no picture at .*9\.png.*; 2 shards .* whole: mend"):
        _shard(tmp_path / "out", sources, 4)
    (tmp_path / "9.png").rename(pairs / "9.png")
    assert _shard(tmp_path / "out", sources, 4) == whole


def test_a_source_that_has_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    pairs = write_tiny_captions(tmp_path / "pairs")
    sources = [(0, CaptionsSource(path=str(pairs)))]
    (pairs / "9.png").rename(tmp_path / "9.png")
    with pytest.raises(ImageError):
        _shard(tmp_path / "out", sources, 4)
    (tmp_path / "9.png").rename(pairs / "9.png")
    listed = pairs / "captions.jsonl"
    before = listed.read_text()
    listed.write_text(before.replace("red square", "red thing"))
    with pytest.raises(DataError, match=r"not what it was when .*shard-00000"):
        _shard(tmp_path / "out", sources, 4)
    listed.write_text(before.splitlines()[0] + "\n")  # shorter than what was read
    with pytest.raises(DataError, match=r"not what it was when .*shard-00000"):
        _shard(tmp_path / "out", sources, 4)


@pytest.mark.parametrize("change", ["caption", "sample", "picture"])
def test_finished_shards_of_a_source_that_has_changed_are_not_passed_off_as_done(
    tmp_path: Path, change: str
) -> None:
    pairs = write_tiny_captions(tmp_path / "pairs")
    sources = [(0, CaptionsSource(path=str(pairs)))]
    before = _shard(tmp_path / "out", sources, 4)
    listed = pairs / "captions.jsonl"
    if change == "caption":
        listed.write_text(listed.read_text().replace("red square", "red thing"))
    elif change == "sample":
        listed.write_text(listed.read_text() + '{"id": "new", "image": "0.png", "text": "new"}\n')
    else:
        save_image(np.zeros((9, 9, 3), np.uint8), pairs / "0.png")
    with pytest.raises(DataError, match=r"not what it was when .*index\.json"):
        _shard(tmp_path / "out", sources, 4)
    assert _files(tmp_path / "out") == before


def test_damaged_samples_behind_the_last_shard_are_counted(tmp_path: Path) -> None:
    pairs = write_tiny_captions(tmp_path / "pairs")
    sources = [(0, CaptionsSource(path=str(pairs)))]
    for number in (0, 10, 11):
        (pairs / f"{number}.png").write_bytes(b"no picture")
    whole = _shard(tmp_path / "whole", sources, 9, max_bad_share=0.5)
    index = read_index(tmp_path / "whole")
    assert [(f.samples, f.skipped) for f in index.shards] == [(9, (0,))]
    assert index.summary()["skipped"] == 3
    (tmp_path / "whole" / "index.json").unlink()
    unfinished = json.dumps(to_plain(replace(index, skipped=0)))
    (tmp_path / "whole" / "unfinished.json").write_text(unfinished)
    assert _shard(tmp_path / "whole", sources, 9, max_bad_share=0.5) == whole


def test_a_damaged_shard_is_not_gone_on_behind(tmp_path: Path) -> None:
    pairs = write_tiny_captions(tmp_path / "pairs")
    sources = [(0, CaptionsSource(path=str(pairs)))]
    (pairs / "9.png").unlink()
    with pytest.raises(ImageError):
        _shard(tmp_path / "out", sources, 4)
    path = tmp_path / "out" / "shard-00001.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"shard-00001\.safetensors is damaged"):
        _shard(tmp_path / "out", sources, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"sources": [(0, ScenesSource(num=41)), GENERATED[1]]},
        {"sources": GENERATED[:1]},
        {"size": 11},
    ],
)
def test_a_folder_of_other_shards_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    _shard(tmp_path)
    before = _files(tmp_path)
    with pytest.raises(DataError, match="holds shards of other sources, tokenizers or sizes"):
        _shard(tmp_path, **change)
    assert _files(tmp_path) == before


def test_damaged_samples_are_left_out_alike_whether_cut_off_or_not(tmp_path: Path) -> None:
    pairs = write_tiny_captions(tmp_path / "pairs")
    sources = [(0, CaptionsSource(path=str(pairs)))]
    for number in (1, 6):
        (pairs / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"1\.png is not a picture"):
        _shard(tmp_path / "strict", sources, 4)
    whole = _shard(tmp_path / "whole", sources, 4, max_bad_share=0.2)
    index = read_index(tmp_path / "whole")
    assert index.summary()["skipped"] == 2
    assert index.summary()["samples"] == len(tiny_pairs()) - 2
    assert [(f.num_read, f.skipped) for f in index.shards] == [(5, (1,)), (5, (1,)), (2, ())]
    (pairs / "11.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3 of .*12 samples are damaged.*3 shards .* whole: mend"):
        _shard(tmp_path / "cut", sources, 4, max_bad_share=0.2)
    allowed = _shard(tmp_path / "cut", sources, 4, max_bad_share=0.3)  # goes on
    assert allowed == _shard(tmp_path / "anew", sources, 4, max_bad_share=0.3)
    assert allowed["shard-00000.safetensors"] == whole["shard-00000.safetensors"]
    assert read_index(tmp_path / "cut").summary()["skipped"] == 3


def test_an_empty_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.sources\.1, of kind scenes, holds no documents"):
        _shard(tmp_path, [(0, SCENES), (1, ScenesSource(num=0))])
    with pytest.raises(DataError, match="the data sources hold no documents"):
        _shard(tmp_path / "none", [(0, ScenesSource(num=0))])


def test_a_flipped_bit_anywhere_is_found_before_training(tmp_path: Path) -> None:
    _shard(tmp_path, [(0, ScenesSource(num=12))], 6)
    path = tmp_path / "shard-00001.safetensors"
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"shard-00001\.safetensors is damaged"):
            build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    path.write_bytes(content)
    build_corpus(_trains_from(tmp_path), TOKENIZERS, None)


def test_a_missing_or_short_shard_is_named(tmp_path: Path) -> None:
    _shard(tmp_path)
    path = tmp_path / "shard-00002.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"shard-00002\.safetensors has [\d,]+ of [\d,]+ bytes"):
        build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    path.unlink()
    with pytest.raises(DataError, match=r"shard-00002\.safetensors is missing"):
        build_corpus(_trains_from(tmp_path), TOKENIZERS, None)


def test_an_index_that_does_not_agree_is_refused(tmp_path: Path) -> None:
    _shard(tmp_path)
    path = tmp_path / "index.json"
    index = json.loads(path.read_text())
    changes = [
        {"schema": 2},
        {"shards": index["shards"][:-1]},
        {"shards": [{**index["shards"][0], "samples": 11}, *index["shards"][1:]]},
        {"sources": [{**index["sources"][0], "samples": 7}, index["sources"][1]]},
        {"whose": 3},
    ]
    for change in changes:
        path.write_text(json.dumps(index | change))
        with pytest.raises(DataError, match=r"index\.json is (damaged|of version 2)"):
            build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    path.write_text("[")
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    path.unlink()
    with pytest.raises(DataError, match=r"no token shards at .*: it lacks index\.json"):
        build_corpus(_trains_from(tmp_path), TOKENIZERS, None)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(TOKENIZERS, image=tiny_image_tokenizer(seed=1)), "another image tokenizer"),
        (
            replace(
                TOKENIZERS,
                text=train_sentencepiece(
                    ["a red thing"] * 9 + ["of many words it is"], vocab_size=280
                ),
            ),
            "another text tokenizer",
        ),
        (replace(TOKENIZERS, max_side=4), r"another syntax\.max_side \(0, and now 4\)"),
    ],
)
def test_shards_of_another_tokenizer_are_refused(
    tmp_path: Path, other: Tokenizers, what: str
) -> None:
    _shard(tmp_path)
    with pytest.raises(DataError, match=what):
        build_corpus(_trains_from(tmp_path), other, None)


def test_a_shard_that_is_cut_while_it_is_read_is_named_rather_than_fatal(tmp_path: Path) -> None:
    _shard(tmp_path)
    corpus = build_corpus(_trains_from(tmp_path), TOKENIZERS, None)
    corpus.check_there(range(len(corpus)))
    path = tmp_path / "shard-00003.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    corpus.check_there(range(30))
    with pytest.raises(DataError, match=r"shard-00003\.safetensors has 100 of .* bytes, while"):
        corpus.check_there([5, 31])
    path.unlink()
    with pytest.raises(DataError, match=r"shard-00003\.safetensors is gone, while"):
        corpus.check_there([31])


def test_folders_and_raw_sources_mix_and_ids_stay_unique(tmp_path: Path) -> None:
    _shard(tmp_path / "a")
    pairs = CaptionsSource(path=str(write_tiny_captions(tmp_path / "pairs")))
    folder = ShardsSource(path=str(tmp_path / "a"))
    config = DataConfig(sources=(folder, pairs, folder))
    corpus = build_corpus(config, TOKENIZERS, tmp_path / "cache")
    assert [len(r) for r in corpus.sources] == [45, 12, 45]
    assert sorted(i for r in corpus.sources for i in r) == list(range(102))
    for place, start in enumerate(("0-shards-0-scenes", "1-captions", "2-shards-0-scenes")):
        assert corpus.id(corpus.sources[place].start).startswith(start)
    assert len({s.id for s in corpus.samples}) == 102
    origins = [to_plain(s) for s in (pairs, SCENES, GENERATED[1][1])]
    assert all(o in corpus.origins for o in origins)


def test_tar_files_are_sharded(tmp_path: Path) -> None:
    for part in range(2):
        with tarfile.open(tmp_path / f"{part}.tar", "w") as tar:
            for number, (text, picture) in enumerate(tiny_pairs()[part * 6 : part * 6 + 6]):
                save_image(picture, tmp_path / "one.png")
                (tmp_path / "one.txt").write_text(text)
                for suffix in ("png", "txt"):
                    tar.add(tmp_path / f"one.{suffix}", f"{part}{number:03d}.{suffix}")
    source = WebDatasetSource(paths=(str(tmp_path / "{0..1}.tar"),))
    _shard(tmp_path / "out", [(0, source)], 5)
    corpus = build_corpus(_trains_from(tmp_path / "out"), TOKENIZERS, None)
    assert [s.segments[0] for s in corpus.samples] == [text for text, _ in tiny_pairs()]
    found = np.stack([corpus.document(i, DataConfig(sources=(SCENES,), image_first=0.0,
        condition_dropout=0.0), 0, 0).segments[1].codes for i in range(12)])  # fmt: skip
    assert np.array_equal(found, TOKENIZERS.image.encode([p for _, p in tiny_pairs()]))


def _write_many(folder: Path, num: int) -> int:
    """Peak of Python's and numpy's allocations while so many samples are sharded."""
    tracemalloc.start()
    try:
        write_shards([(0, ScenesSource(num=num))], TOKENIZERS, folder, samples_per_shard=100)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_writing_takes_no_more_memory_for_more_samples(tmp_path: Path) -> None:
    _write_many(tmp_path / "warm", 100)
    few, many = _write_many(tmp_path / "few", 200), _write_many(tmp_path / "many", 1200)
    assert many < 1.3 * few


def test_arrays_of_shards_stay_on_disk(tmp_path: Path) -> None:
    _shard(tmp_path, [(0, ScenesSource(num=300))], 100)
    size = sum(f.num_bytes for f in read_index(tmp_path).shards)
    tracemalloc.start()
    try:
        shard = map_shard(tmp_path / "shard-00001.safetensors")
        assert tracemalloc.get_traced_memory()[0] < size / 6
    finally:
        tracemalloc.stop()
    for array in shard.arrays.values():
        base = array
        while isinstance(base, np.ndarray) and base.base is not None:
            if isinstance(base, np.memmap):
                break
            base = base.base
        assert isinstance(base, np.memmap)
        assert not array.flags.writeable


def test_verifying_is_told_of_in_bytes(tmp_path: Path) -> None:
    _shard(tmp_path)
    told: list[tuple[int, int]] = []
    index, shards = open_shards(tmp_path, TOKENIZERS.whose, lambda *n: told.append(n))
    assert len(told) == len(shards) == 5
    assert told[-1] == (index.summary()["bytes"],) * 2


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    tmp_path.joinpath(".lock").touch()
    with (tmp_path / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process is writing into"):
            _shard(tmp_path)
    _shard(tmp_path)


def test_a_run_waits_for_another_process_that_writes_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(sources=(SCENES,))
    first = build_corpus(config, TOKENIZERS, tmp_path)
    (folder,) = tmp_path.iterdir()
    index = (folder / "index.json").read_bytes()
    (folder / "index.json").unlink()  # as if the other were not done
    found: list[str] = []
    waiting = threading.Thread(
        target=lambda: found.append(build_corpus(config, TOKENIZERS, tmp_path).fingerprint)
    )
    calls: list[int] = []
    monkeypatch.setattr(ImageTokenizer, "encode", lambda self, images: calls.append(1))
    with (folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        (folder / "index.json").write_bytes(index)
    waiting.join(20)
    assert found == [first.fingerprint]
    assert calls == []


def test_empty_text_is_an_error_with_the_name_of_its_document(tmp_path: Path) -> None:
    class Refusing:
        size, fingerprint = 5, "f"

        def encode(self, text: str) -> list[int]:
            raise TokenError("the text is empty: give it at least one word")

    tokenizers = replace(TOKENIZERS, text=Refusing())  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="document '0-scenes-0': the text is empty"):
        write_shards([(0, SCENES)], tokenizers, tmp_path)

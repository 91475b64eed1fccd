"""From sources to codes: encoded once, cached by all that matters, drawn anew each epoch."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.data import (
    AugmentConfig,
    CaptionsSource,
    DataConfig,
    DocumentsSource,
    EditsSource,
    EmojiSource,
    ScenesSource,
    SequencesSource,
    StoriesSource,
)
from genvlm.data.corpus import build_corpus
from genvlm.data.edits import sample_edits
from genvlm.data.emoji import class_concepts, split_concepts
from genvlm.data.images import save_image
from genvlm.data.scenes import INVERSE, render_scene, sample_scenes
from genvlm.data.sequences import sample_sequences
from genvlm.data.sources import Sample
from genvlm.data.tokenising import Tokenizers
from genvlm.errors import DataError, ImageError
from genvlm.testing.corpora import corpus_of
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_pairs,
    tiny_text_tokenizer,
    write_tiny_captions,
)
from genvlm.tokenization.document import Document, Image, Text
from genvlm.tokenization.image import ImageTokenizer

TOKENIZER = tiny_image_tokenizer()
TOKENIZERS = Tokenizers(text=tiny_text_tokenizer(), image=TOKENIZER)
GENERATED = DataConfig(sources=(ScenesSource(num=12), StoriesSource(num=3)))
CODES = np.arange(16).reshape(1, 4, 4)


def _captions(folder: Path) -> DataConfig:
    return DataConfig(sources=(CaptionsSource(path=str(write_tiny_captions(folder))),))


def _documents(folder: Path, *rows: dict[str, object]) -> DataConfig:
    folder.mkdir(exist_ok=True)
    path = folder / "documents.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return DataConfig(sources=(DocumentsSource(path=str(path)),))


def _plain(document: Document) -> list[object]:
    return [s.text if isinstance(s, Text) else s.codes.tolist() for s in document.segments]


def _draws(config: DataConfig, num: int = 4000) -> list[str]:
    """Per epoch, the letters of one pair: T for its text, I for its picture."""
    corpus = corpus_of([Sample("a", ("a cow", 0), "pair")], CODES)
    documents = (corpus.document(0, config, 0, epoch) for epoch in range(num))
    return ["".join("T" if isinstance(s, Text) else "I" for s in d.segments) for d in documents]


def _count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    encode = ImageTokenizer.encode

    def counted(self: ImageTokenizer, images: list[np.ndarray]) -> np.ndarray:
        calls.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(ImageTokenizer, "encode", counted)
    return calls


def test_every_picture_is_encoded_as_the_tokenizer_does(tmp_path: Path) -> None:
    corpus = build_corpus(_captions(tmp_path), TOKENIZERS, None)
    texts, pictures = zip(*tiny_pairs(), strict=True)
    assert [s.segments for s in corpus.samples] == [(t, i) for i, t in enumerate(texts)]
    assert np.array_equal(corpus.codes, TOKENIZER.encode(pictures))


def test_stories_alternate_sentences_and_their_own_pictures() -> None:
    corpus = build_corpus(GENERATED, TOKENIZERS, None)
    numbers = [s for sample in corpus.samples for s in sample.segments if isinstance(s, int)]
    assert numbers == list(range(len(corpus.codes)))
    for sample in corpus.samples[12:]:
        assert sample.kind == "document"
        assert [type(s) for s in sample.segments] == [str, int] * (len(sample.segments) // 2)


def test_ids_are_unique_over_all_sources(tmp_path: Path) -> None:
    pairs = _captions(tmp_path).sources[0]
    config = DataConfig(sources=(*GENERATED.sources, pairs, pairs))
    ids = [s.id for s in build_corpus(config, TOKENIZERS, None).samples]
    assert len(ids) == len(set(ids)) == 12 + 3 + 2 * len(tiny_pairs())


def test_equal_pictures_are_encoded_once_and_shared() -> None:
    corpus = build_corpus(DataConfig(sources=(ScenesSource(num=3000),)), TOKENIZERS, None)
    told = {}
    for sample, scene in zip(corpus.samples, sample_scenes(3000, 0), strict=True):
        leads = scene.relation in ("left of", "above")
        relation, icons = scene.relation, (scene.first, scene.second)
        shown = (relation, icons) if leads else (INVERSE[relation], icons[::-1])
        assert told.setdefault(shown, sample.segments[1]) == sample.segments[1]
    assert len(told) == len(corpus.codes) < 2700


def test_an_emoji_source_holds_training_families_only_and_its_copies() -> None:
    config = DataConfig(sources=(EmojiSource(vendors=("noto",), augmented_copies=1),))
    corpus = build_corpus(config, TOKENIZERS, None)
    half = len(corpus.samples) // 2
    labels = [concept.label for concept in split_concepts(held_out=False)]
    assert [s.segments[0] for s in corpus.samples[:half]] == labels
    assert [s.id.rsplit("-", 1)[1] for s in corpus.samples] == ["0"] * half + ["1"] * half
    first, copies = (
        corpus.codes[[s.segments[1] for s in part]]
        for part in (corpus.samples[:half], corpus.samples[half:])
    )
    assert (first != copies).any(axis=(1, 2)).mean() > 0.8


def test_an_emoji_source_of_the_classes_may_hold_their_labels_alone() -> None:
    source = EmojiSource(
        vendors=("noto",), concepts="classes", texts="labels", augmented_copies=2,
        augment=AugmentConfig(degrees=5.0),
    )  # fmt: skip
    told: list[int] = []
    corpus = build_corpus(
        DataConfig(sources=(source,)), TOKENIZERS, None, lambda _done, total: told.append(total)
    )
    labels = [concept.label for concept in class_concepts()]
    assert [s.segments[0] for s in corpus.samples] == labels * 3
    assert set(told) == {300}


def test_another_augmentation_is_another_corpus(tmp_path: Path) -> None:
    for augment in (AugmentConfig(), AugmentConfig(blur=0.5)):
        source = EmojiSource(
            vendors=("noto",), concepts="classes", augmented_copies=1, augment=augment
        )
        build_corpus(DataConfig(sources=(source,)), TOKENIZERS, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cached_corpus_is_read_rather_than_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _count_encodings(monkeypatch)
    first = build_corpus(GENERATED, TOKENIZERS, tmp_path)
    assert calls
    calls.clear()
    again = build_corpus(GENERATED, TOKENIZERS, tmp_path)
    assert calls == []
    assert list(again.samples) == list(first.samples)
    assert np.array_equal(again.codes, first.codes)
    assert again.codes.dtype == first.codes.dtype
    (folder,) = tmp_path.iterdir()
    files = {".lock", "index.json", "shard-00000.safetensors"}
    assert {p.name for p in folder.iterdir()} == files


def test_what_is_drawn_each_epoch_does_not_touch_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_corpus(GENERATED, TOKENIZERS, tmp_path)
    calls = _count_encodings(monkeypatch)
    config = DataConfig(sources=GENERATED.sources, condition_dropout=0.5, image_first=0.0)
    build_corpus(config, TOKENIZERS, tmp_path)
    assert calls == []


@pytest.mark.parametrize(
    "source",
    [
        ScenesSource(num=13),
        ScenesSource(num=12, seed=1),
        ScenesSource(num=12, vendors=("twemoji",)),
        ScenesSource(num=12, counts=0.5),
    ],
)
def test_another_source_is_encoded_anew(tmp_path: Path, source: ScenesSource) -> None:
    build_corpus(DataConfig(sources=(ScenesSource(num=12),)), TOKENIZERS, tmp_path)
    config = DataConfig(sources=(source,))
    cached, fresh = (build_corpus(config, TOKENIZERS, c) for c in (tmp_path, None))
    assert list(cached.samples) == list(fresh.samples)
    assert np.array_equal(cached.codes, fresh.codes)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_tokenizer_does_not_read_codes_of_the_first(tmp_path: Path) -> None:
    build_corpus(GENERATED, TOKENIZERS, tmp_path)
    other = replace(TOKENIZERS, image=tiny_image_tokenizer(seed=1))
    fresh = build_corpus(GENERATED, other, None)
    assert np.array_equal(build_corpus(GENERATED, other, tmp_path).codes, fresh.codes)


def test_a_changed_picture_or_caption_is_encoded_anew(tmp_path: Path) -> None:
    config, cache = _captions(tmp_path / "data"), tmp_path / "cache"
    before = build_corpus(config, TOKENIZERS, cache)
    picture = tmp_path / "data" / "0.png"
    save_image(np.zeros((16, 16, 3), np.uint8), picture)
    os.utime(picture, ns=(1, 1))
    changed = build_corpus(config, TOKENIZERS, cache)
    assert not np.array_equal(changed.codes[0], before.codes[0])
    assert np.array_equal(changed.codes[1:], before.codes[1:])
    listed = tmp_path / "data" / "captions.jsonl"
    listed.write_text(listed.read_text().replace("a red square", "a crimson square"))
    assert "crimson" in str(build_corpus(config, TOKENIZERS, cache).samples[0].segments[0])


def test_a_run_that_writes_beside_the_data_keeps_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _documents(tmp_path, {"id": "d", "segments": [{"text": "a"}, {"image": "a.png"}]})
    save_image(np.zeros((16, 16, 3), np.uint8), tmp_path / "a.png")
    cache = tmp_path / "run" / "cache"
    build_corpus(config, TOKENIZERS, cache)
    (tmp_path / "run" / "log.jsonl").write_text("{}")
    calls = _count_encodings(monkeypatch)
    build_corpus(config, TOKENIZERS, cache)
    assert calls == []


def test_documents_keep_order_loss_and_every_segment_in_every_epoch(tmp_path: Path) -> None:
    save_image(np.zeros((16, 16, 3), np.uint8), tmp_path / "a.png")
    segments = [{"image": "a.png"}, {"text": "first"}, {"text": "second"}]
    config = _documents(tmp_path, {"id": "d", "segments": segments, "loss": [False, True, True]})
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        corpus = build_corpus(config, TOKENIZERS, cache)
        documents = [corpus.document(0, config, 0, epoch) for epoch in range(20)]
        assert {json.dumps(_plain(d)) for d in documents} == {json.dumps(_plain(documents[0]))}
        assert [type(s) for s in documents[0].segments] == [Image, Text, Text]
        assert list(documents[0].loss or ()) == [False, True, True]


def test_documents_without_pictures_make_a_corpus(tmp_path: Path) -> None:
    config = _documents(tmp_path, {"id": "d", "segments": [{"text": "only words"}]})
    corpus = build_corpus(config, TOKENIZERS, None)
    assert corpus.num_pictures == len(corpus.codes) == 0
    assert _plain(corpus.document(0, config, 0, 0)) == ["only words"]


def test_no_documents_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="no documents"):
        build_corpus(DataConfig(sources=(ScenesSource(num=0),)), TOKENIZERS, None)


@pytest.mark.parametrize("cached", [False, True])
def test_a_listed_picture_that_is_missing_is_named(tmp_path: Path, cached: bool) -> None:
    config = _captions(tmp_path / "data")
    cache = tmp_path / "cache" if cached else None
    build_corpus(config, TOKENIZERS, cache)
    (tmp_path / "data" / "3.png").unlink()
    with pytest.raises(ImageError, match=r"no picture at .*3\.png"):
        build_corpus(config, TOKENIZERS, cache)


def test_progress_ends_at_its_total() -> None:
    reports: list[tuple[int, int]] = []
    build_corpus(GENERATED, TOKENIZERS, None, lambda done, total: reports.append((done, total)))
    assert reports
    assert all(done <= total for done, total in reports)


def test_a_document_is_a_function_of_its_arguments() -> None:
    corpus = build_corpus(GENERATED, TOKENIZERS, None)
    table = {
        (i, seed, epoch): json.dumps(_plain(corpus.document(i, GENERATED, seed, epoch)))
        for i in range(12)
        for seed in (0, 1)
        for epoch in range(8)
    }
    for (i, seed, epoch), document in reversed(table.items()):
        assert json.dumps(_plain(corpus.document(i, GENERATED, seed, epoch))) == document
    for other in ({"seed": 1}, {"epoch": 1}):
        changed = [
            table[i, other.get("seed", 0), other.get("epoch", 0)] != table[i, 0, 0]
            for i in range(12)
        ]
        assert any(changed)


def test_another_place_in_the_corpus_changes_nothing() -> None:
    sample = Sample("a", ("a cow", 0), "pair")
    alone = corpus_of([sample], CODES)
    behind = corpus_of([Sample("b", ("b", 0), "pair"), sample], CODES)
    for epoch in range(30):
        first = alone.document(0, GENERATED, 0, epoch)
        assert _plain(first) == _plain(behind.document(1, GENERATED, 0, epoch))


def test_conditions_are_dropped_in_a_tenth_and_orders_are_even() -> None:
    draws = _draws(GENERATED)
    share = {kind: draws.count(kind) / len(draws) for kind in ("TI", "IT", "T", "I")}
    assert sum(share.values()) == 1
    assert share["T"] + share["I"] == pytest.approx(0.1, abs=0.02)
    assert share["T"] == pytest.approx(share["I"], abs=0.015)
    assert share["TI"] == pytest.approx(0.45, abs=0.03)
    assert share["IT"] == pytest.approx(0.45, abs=0.03)


@pytest.mark.parametrize(
    ("dropout", "image_first", "expected"),
    [(0.0, 0.0, {"TI"}), (0.0, 1.0, {"IT"}), (1.0, 0.0, {"I"}), (1.0, 1.0, {"T"})],
)
def test_what_is_dropped_is_the_part_that_stands_first(
    dropout: float, image_first: float, expected: set[str]
) -> None:
    config = DataConfig(
        sources=GENERATED.sources, condition_dropout=dropout, image_first=image_first
    )
    assert set(_draws(config, 50)) == expected


def test_a_flipped_bit_in_the_cache_is_told(tmp_path: Path) -> None:
    build_corpus(GENERATED, TOKENIZERS, tmp_path)
    (path,) = tmp_path.glob("*/shard-*")
    content = bytearray(path.read_bytes())
    told = 0
    places = range(0, len(content), max(1, len(content) // 40))
    for at in places:
        damaged = content.copy()
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        try:
            build_corpus(GENERATED, TOKENIZERS, tmp_path)
        except DataError as error:
            assert "delete it" in str(error)  # noqa: PT017
            told += 1
    assert told == len(places)


def test_the_fingerprint_of_a_corpus_is_of_what_it_holds(tmp_path: Path) -> None:
    built, cached = (build_corpus(GENERATED, TOKENIZERS, tmp_path) for _ in range(2))
    assert built.fingerprint == cached.fingerprint
    same = corpus_of(built.samples, built.codes)
    codes = built.codes.copy()
    codes[3, 0, 0] += 1
    assert corpus_of(built.samples, codes).fingerprint != same.fingerprint
    assert corpus_of(built.samples[1:], built.codes).fingerprint != same.fingerprint


def _edit_draws(dropout: float, num: int = 3000) -> list[Document]:
    corpus = corpus_of([Sample("a", (0, "swap", 1), "edit")], np.stack([CODES[0], CODES[0] + 1]))
    config = DataConfig(sources=(ScenesSource(num=1),), condition_dropout=dropout)
    return [corpus.document(0, config, 0, epoch) for epoch in range(num)]


def test_an_edit_learns_its_result_alone_and_loses_conditions_one_by_one() -> None:
    drawn = _edit_draws(0.3)
    kinds = ["".join("T" if isinstance(s, Text) else "I" for s in d.segments) for d in drawn]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))}
    assert shares == pytest.approx({"I": 0.09, "II": 0.21, "ITI": 0.7}, abs=0.03)
    for document in drawn[:50]:
        assert list(document.loss) == [False] * (len(document.segments) - 1) + [True]
        assert document.segments[-1].codes.tolist() == (CODES[0] + 1).tolist()
    assert {len(d.segments) for d in _edit_draws(0.0, 200)} == {3}


def test_edits_and_sequences_are_rendered_and_encoded() -> None:
    config = DataConfig(sources=(EditsSource(num=6), SequencesSource(num=4)))
    corpus = build_corpus(config, TOKENIZERS, None)
    edits, sequences = corpus.samples[:6], corpus.samples[6:]
    for sample, edit in zip(edits, sample_edits(6, 0), strict=True):
        before, instruction, after = sample.segments
        assert instruction == edit.instruction
        pictures = [render_scene(s, "noto") for s in (edit.before, edit.after)]
        np.testing.assert_array_equal(corpus.codes[[before, after]], TOKENIZER.encode(pictures))
    for sample, sequence in zip(sequences, sample_sequences(4, 0), strict=True):
        assert [s for s in sample.segments if isinstance(s, str)] == sequence.labels
        assert sample.kind == "document"


def test_sized_pictures_keep_their_shapes(tmp_path: Path) -> None:
    shapes = [(16, 8), (8, 16), (4, 4), (40, 20), (9, 15)]
    rows = []
    for i, shape in enumerate(shapes):
        save_image(np.full((*shape, 3), 40 * i, np.uint8), tmp_path / f"{i}.png")
        rows.append(json.dumps({"image": f"{i}.png", "text": f"picture {i}"}))
    (tmp_path / "captions.jsonl").write_text("\n".join(rows))
    config = DataConfig(sources=(CaptionsSource(path=str(tmp_path)),), image_first=0.0)
    sized = replace(TOKENIZERS, max_side=4)
    corpus = build_corpus(config, sized, tmp_path / "cache")
    images = [corpus.document(i, config, 0, 0).segments[-1].codes for i in range(5)]
    assert [c.shape for c in images] == [(4, 2), (2, 4), (1, 1), (4, 2), (2, 4)]
    whole = TOKENIZER.encode_sized([np.full((16, 8, 3), 0, np.uint8)], 4)[0]
    assert images[0].tolist() == whole.tolist()
    again = build_corpus(config, sized, tmp_path / "cache")
    assert again.fingerprint == corpus.fingerprint
    assert build_corpus(config, TOKENIZERS, tmp_path / "cache").codes.min() >= 0

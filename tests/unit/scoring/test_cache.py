from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import EvaluationError
from genvlm.scoring.cache import (
    CachedAnswerer,
    CachedScorer,
    CachedVideoScorer,
    ValueCache,
)
from genvlm.scoring.protocols import (
    Answer,
    ClipSet,
    Grid,
    Plausibility,
    Question,
    ScorerInfo,
    Scores,
)


def grid(item_id: str, level: int = 0, texts: Sequence[str] = ("a", "bb")) -> Grid:
    return Grid(item_id=item_id, images=[np.full((2, 3, 3), level, np.uint8)], texts=texts)


class Counting:
    def __init__(self, name: str = "counting") -> None:
        self.info = ScorerInfo(name=name, unit="nats")
        self.seen: list[str] = []

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        self.seen += [g.item_id for g in grids]
        return [
            Scores(
                np.array([[0.1 + len(t) for t in g.texts]]), np.array([[len(t) for t in g.texts]])
            )
            for g in grids
        ]

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.seen += [q.item_id for q in questions]
        return [Answer(f"to {q.prompt}", "refused") for q in questions]


def test_a_second_run_computes_only_what_is_new(tmp_path: Path) -> None:
    first = Counting()
    scorer = CachedScorer(first, ValueCache(tmp_path / "cache.jsonl"))
    before = scorer.score([grid("x"), grid("y")])
    assert first.seen == ["x", "y"]
    second = Counting()
    again = CachedScorer(second, ValueCache(tmp_path / "cache.jsonl"))
    after = again.score([grid("y"), grid("z"), grid("x")])
    assert second.seen == ["z"]
    np.testing.assert_array_equal(after[0].values, before[1].values)
    np.testing.assert_array_equal(after[2].num_tokens, before[0].num_tokens)
    assert again.info is second.info


@pytest.mark.parametrize(
    "other",
    [
        grid("x", level=1),
        grid("x", texts=("a", "cc")),
        grid("x", texts=("bb", "a")),
        replace(grid("x"), images=[np.zeros((3, 2, 3), np.uint8)]),
    ],
)
def test_other_pictures_or_texts_are_a_miss(tmp_path: Path, other: Grid) -> None:
    counting = Counting()
    scorer = CachedScorer(counting, ValueCache(tmp_path / "cache.jsonl"))
    scorer.score([grid("x")])
    scorer.score([other])
    assert counting.seen == ["x", "x"]


def test_another_model_is_a_miss(tmp_path: Path) -> None:
    for name in ("one", "two"):
        counting = Counting(name)
        CachedScorer(counting, ValueCache(tmp_path / "cache.jsonl")).score([grid("x")])
        assert counting.seen == ["x"]


def test_answers_are_kept_word_for_word(tmp_path: Path) -> None:
    question = Question(item_id="q", images=grid("x").images, prompt="is it?")
    for expected in (["q"], []):
        counting = Counting()
        cached = CachedAnswerer(counting, ValueCache(tmp_path / "cache.jsonl"))
        assert cached.answer([question]) == [Answer("to is it?", "refused")]
        assert counting.seen == expected


def test_a_line_that_was_cut_short_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    CachedScorer(Counting(), ValueCache(path)).score([grid("x"), grid("y")])
    path.write_bytes(path.read_bytes()[:-9])
    counting = Counting()
    CachedScorer(counting, ValueCache(path)).score([grid("x"), grid("y")])
    assert counting.seen == ["y"]
    assert len(path.read_text().splitlines()) == 2
    path.write_bytes(path.read_bytes()[:-1])  # whole but for its end: written anew as well
    CachedScorer(Counting(), ValueCache(path)).score([grid("x"), grid("y"), grid("z")])
    assert len(path.read_text().splitlines()) == 3
    path.write_text("no json\n" + path.read_text())
    with pytest.raises(EvaluationError, match="line 1, is damaged"):
        ValueCache(path)


class CountsClips:
    info = ScorerInfo(name="counts", unit="nats")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        self.asked += [one.item_id for one in sets]
        with_latents = np.full((2, 3), 0.1)
        return [
            Plausibility(
                np.array([c.mean() / 3 for c in one.clips]),
                with_latents if one.item_id == "a" else None,
            )
            for one in sets
        ]


def test_clips_that_were_scored_are_not_scored_again_and_other_pixels_are(tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 4, 3), np.uint8)
    sets = [ClipSet(item_id=name, clips=list(clips)) for name in "ab"]
    scorer = CountsClips()
    first = CachedVideoScorer(scorer, ValueCache(tmp_path / "cache.jsonl")).score(sets)
    changed = clips.copy()
    changed[1, 4, 0, 0, 0] ^= 1
    again = CachedVideoScorer(scorer, ValueCache(tmp_path / "cache.jsonl")).score(
        [*sets, ClipSet(item_id="a", clips=list(changed))]
    )
    assert scorer.asked == ["a", "b", "a"]
    for old, new in zip(first, again, strict=False):
        np.testing.assert_array_equal(old.values, new.values)
    np.testing.assert_array_equal(again[0].latents, np.full((2, 3), 0.1))
    assert again[1].latents is None

"""The page of a benchmark of clips says of each kind what it measures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.evaluation.cards import load_card
from genvlm.evaluation.summary import summarize
from genvlm.evaluation.video_benchmark import (
    VideoBenchmark,
    VideoItem,
    run_video_benchmark,
)
from genvlm.scoring.protocols import ClipSet, Plausibility, ScorerInfo
from genvlm.studies.video_evaluations import VideoEvaluation
from genvlm.studies.video_page import write_video_page


class Grey:
    """Darker is more plausible."""

    info = ScorerInfo(name="grey", unit="arbitrary")

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        return [Plausibility(np.array([-float(c[0, 0, 0, 0]) for c in s.clips])) for s in sets]


def evaluate(card_name: str, greys: tuple[int, ...]) -> VideoEvaluation:
    """One quadruplet of clips of one grey each."""
    one, two, three, four = (np.full((17, 4, 4, 3), grey, np.uint8) for grey in greys)
    items = (
        VideoItem(id="q", load=lambda: [(one, two), (three, four)], group="q", tags=("a law",)),
    )
    card = replace(load_card(card_name), confounders=[])
    benchmark = VideoBenchmark(name=card.name, items=items, card=card, version="1", context=9)
    records = run_video_benchmark(benchmark, Grey(), {})
    return VideoEvaluation(benchmark, records, summarize(records, card))


@pytest.mark.parametrize(
    ("card", "said", "left_out"),
    [
        ("physics", ["0 of 1 quadruplets have both pairs right", "A, lawful", "a tie is wrong",
                     "the worse pair is missed by 10.0 nats"], ["sums of both kinds"]),
        ("intphys", ["1 of 1 quadruplets have the sums of both kinds right", "other broken",
                     "a tie is half", "the sum of both kinds is right by 60.0 nats"],
         ["both pairs", "A, lawful", "a tie is wrong"]),
    ],
)  # fmt: skip
def test_pairs_are_shown_where_a_benchmark_has_some_and_else_sums(
    tmp_path: Path, card: str, said: list[str], left_out: list[str]
) -> None:
    # The second pair is missed, and both together are right.
    write_video_page(evaluate(card, (10, 80, 40, 30)), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for text in said:
        assert text in page
    for text in left_out:
        assert text not in page

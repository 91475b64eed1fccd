"""Benchmarks of clips: run, logged, judged, and reported as confounded where a control knows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import EvaluationError, VideoError
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.comparison import compare
from genvlm.evaluation.records import read_records, write_records
from genvlm.evaluation.summary import summarize
from genvlm.evaluation.video_benchmark import (
    ClipPairs,
    VideoBenchmark,
    VideoItem,
    run_video_benchmark,
)
from genvlm.scoring.protocols import ClipSet, Plausibility, ScorerInfo

NUM = 16


def clip(value: int) -> np.ndarray:
    return np.full((5, 2, 2, 3), value, np.uint8)


def quadruplet(number: int) -> ClipPairs:
    """Lawful clips are 10 and 30, broken ones 20 and 40: told by the first digit alone."""
    return [(clip(10), clip(20)), (clip(30), clip(40))]


class Says:
    """Scores a clip by its grey value; remembers the order in which clips came."""

    def __init__(self, says: Callable[[int], float], name: str = "says") -> None:
        self._says = says
        self.seen: list[tuple[int, ...]] = []
        self.info = ScorerInfo(name=name, unit="arbitrary")

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        found = []
        for one in sets:
            grey = [int(c[0, 0, 0, 0]) for c in one.clips]
            self.seen.append(tuple(grey))
            values = np.array([self._says(g) for g in grey], np.float64)
            found.append(Plausibility(values, np.stack([values / 4, 3 * values / 4], 1)))
        return found


@pytest.fixture
def benchmark() -> VideoBenchmark:
    items = tuple(
        VideoItem(id=f"{law}-{n}", load=lambda n=n: quadruplet(n), group=f"{law}-{n}", tags=(law,))
        for law in ("gravity", "solidity")
        for n in range(NUM)
    )
    return VideoBenchmark(
        name="physics", items=items, card=load_card("physics"), version="1", context=1
    )


right = {10: 2.0, 20: 1.0, 30: 4.0, 40: 3.0}


def test_clips_come_in_an_order_that_tells_nothing_and_are_judged_in_their_own(
    benchmark: VideoBenchmark,
) -> None:
    scorer = Says(right.__getitem__)
    records = run_video_benchmark(benchmark, scorer, {})
    assert len(set(scorer.seen)) > 10  # of 24 orders
    assert {r.scores for r in records} == {((2.0, 1.0), (4.0, 3.0))}
    assert records[0].latents == ((0.5, 1.5), (0.25, 0.75), (1.0, 3.0), (0.75, 2.25))
    result = summarize(records, benchmark.card)
    assert {name: m.value for name, m in result.metrics.items()} == {
        "auc": 75.0,
        "quadruplet": 100.0,
        "pair": 100.0,
    }
    assert result.categories["gravity"]["pair"].n == NUM


def test_a_log_of_clips_can_be_written_read_judged_again_and_compared(
    benchmark: VideoBenchmark, tmp_path: Path
) -> None:
    records = run_video_benchmark(benchmark, Says(right.__getitem__), {"constant": Says(float)})
    write_records(records, tmp_path / "items.jsonl")
    log = read_records(tmp_path / "items.jsonl")
    assert log.records == records
    assert summarize(log.records, benchmark.card) == summarize(records, benchmark.card)
    worse = run_video_benchmark(benchmark, Says(lambda g: -right[g], "worse"), {})
    found = compare(records, worse, benchmark.card)
    assert found.metrics["pair"].difference == -100
    assert found.metrics["pair"].num_groups == 2 * NUM


def test_a_law_is_confounded_where_a_control_tells_right_from_wrong_or_wrong_from_right(
    benchmark: VideoBenchmark,
) -> None:
    flips = np.random.default_rng(0)
    controls = {
        "single frame": Says(lambda g: 0.0),
        "untrained": Says(lambda g: float(flips.standard_normal())),
        "frame difference": Says(lambda g: -right[g]),
    }
    records = run_video_benchmark(benchmark, Says(right.__getitem__), controls)
    result = summarize(records, benchmark.card)
    confounded = [flag for flag in result.flags if "confounded" in flag]
    assert len(confounded) == 4  # two laws, two metrics
    assert all("'frame difference' gets 0.0" in flag for flag in confounded)
    assert {flag.split()[0] for flag in confounded} == {"gravity", "solidity"}
    assert [flag for flag in result.flags if "was not run" in flag] == [
        "the control 'shuffled frames' was not run: whether it tells right from wrong is not known"
    ]
    assert not any("'single frame'" in flag or "'untrained'" in flag for flag in result.flags)


def test_a_control_is_judged_in_each_law_apart(benchmark: VideoBenchmark) -> None:
    def mixed(number: int) -> ClipPairs:
        return [(clip(50), clip(60)), (clip(70), clip(80))]

    items = tuple(
        replace(item, load=lambda: mixed(0)) if "solidity" in item.tags else item
        for item in benchmark.items
    )
    # Right in one law and wrong in the other: over all items it looks like chance.
    knows = {10: 1, 20: 0, 30: 1, 40: 0, 50: 0, 60: 1, 70: 0, 80: 1}
    records = run_video_benchmark(
        replace(benchmark, items=items), Says(float), {"untrained": Says(lambda g: knows[g])}
    )
    result = summarize(records, benchmark.card)
    assert result.controls.scores["untrained"].metrics["pair"].value == 50
    flags = [flag for flag in result.flags if "confounded" in flag and "in pair" in flag]
    assert sorted(flag.split()[0] for flag in flags) == ["gravity", "solidity"]


def test_an_item_that_cannot_be_read_is_counted_and_the_others_go_on(
    benchmark: VideoBenchmark,
) -> None:
    def broken() -> ClipPairs:
        raise VideoError("scene 3 is cut short")

    items = (replace(benchmark.items[0], load=broken), *benchmark.items[1:])
    records = run_video_benchmark(
        replace(benchmark, items=items), Says(right.__getitem__), {"constant": Says(float)}
    )
    assert [r.status for r in records].count("failed") == 1
    assert records[0].problem == "scene 3 is cut short"
    result = summarize(records, benchmark.card)
    assert result.status == "incomplete"
    assert result.coverage["answered"] == 2 * NUM - 1
    with pytest.raises(EvaluationError, match="all 1 items of physics failed"):
        run_video_benchmark(replace(benchmark, items=items[:1]), Says(float), {})


def test_scores_that_mean_nothing_name_their_item(benchmark: VideoBenchmark) -> None:
    with pytest.raises(EvaluationError, match=r"item 'gravity-0'.*the scorer gave nan"):
        run_video_benchmark(benchmark, Says(lambda g: float("nan")), {})
    with pytest.raises(EvaluationError, match="'random' is taken"):
        run_video_benchmark(benchmark, Says(float), {"random": Says(float)})

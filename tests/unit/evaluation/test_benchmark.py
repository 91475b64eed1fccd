from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.errors import EvaluationError, TokenError
from genvlm.evaluation.benchmark import Benchmark, Item, derange, run_benchmark
from genvlm.evaluation.cards import Card
from genvlm.evaluation.summary import summarize
from genvlm.scoring.controls import ConstantScorer, LengthScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores

CHOICE = Card(
    name="numbers",
    version="1",
    rule="choice",
    chance={"accuracy": 25.0},
    licence="none",
    artefacts=[],
    description="pictures of one grey level; the right text is that level",
    metrics={"accuracy": "the level"},
)


def grey(level: int, size: int = 4) -> np.ndarray:
    return np.full((size, size + level % 3, 3), level, np.uint8)


def numbers(num: int = 20) -> Benchmark:
    """Each item shows a grey level and asks which of four numbers it is."""
    items = []
    for k in range(num):
        texts = [str(k), str(k + 50), str(k + 100), str(k + 150)]
        grid = Grid(item_id=f"item-{k}", images=[grey(k + 50)], texts=texts)
        items.append(Item(grid, f"group-{k % 5}", 1, ("even" if k % 2 == 0 else "odd",)))
    return Benchmark("numbers", tuple(items), CHOICE, "1")


class SeeingScorer:
    """Knows the grey level; its values and token counts tell which image and text they are of."""

    info = ScorerInfo(name="seeing", unit="arbitrary")

    def __init__(self) -> None:
        self.calls: list[list[Grid]] = []

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        self.calls.append(list(grids))
        return [
            Scores(
                np.array([[-abs(int(i[0, 0, 0]) - int(t)) for t in g.texts] for i in g.images])
                * 1.0,
                np.array([[int(i[0, 0, 0]) * 1000 + int(t) for t in g.texts] for i in g.images]),
            )
            for g in grids
        ]


class SpoiltScorer(SeeingScorer):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        results = super().score(grids)
        for grid, result in zip(grids, results, strict=True):
            if grid.item_id == "item-7":
                result.values[0, 2] = self.value
        return results


def test_the_order_of_candidates_is_shuffled_and_undone() -> None:
    scorer = SeeingScorer()
    records = run_benchmark(numbers(), scorer, shuffled=False)
    shown = [grid for call in scorer.calls for grid in call]
    for k, (record, grid) in enumerate(zip(records, shown, strict=True)):
        own_order = [str(k), str(k + 50), str(k + 100), str(k + 150)]
        assert list(grid.texts) == [own_order[t] for t in record.text_order]
        assert record.scores == ((-50.0, 0.0, -50.0, -100.0),)
        assert record.num_tokens == (tuple(1000 * (k + 50) + int(t) for t in own_order),)
        assert record.credit["accuracy"] == (1.0, 1.0, 1.0, False)
    assert len({record.text_order for record in records}) > 5
    assert [r.text_order for r in run_benchmark(numbers(), scorer)] == [
        r.text_order for r in records
    ]


def test_pictures_of_a_grid_are_shuffled_and_undone() -> None:
    card = Card(
        name="pairs",
        version="1",
        rule="grid2x2",
        chance={"text": 25.0, "image": 25.0, "group": 16.67},
        licence="none",
        artefacts=[],
        description="two grey levels and two numbers",
        metrics={"text": "", "image": "", "group": ""},
    )
    items = tuple(
        Item(
            Grid(item_id=f"i{k}", images=[grey(k), grey(k + 9)], texts=[str(k), str(k + 9)]),
            f"g{k}",
            None,
            (),
        )
        for k in range(12)
    )
    scorer = SeeingScorer()
    records = run_benchmark(Benchmark("pairs", items, card, "1"), scorer)
    assert {r.image_order for r in records} == {(0, 1), (1, 0)}
    assert all(r.scores == ((0.0, -9.0), (-9.0, 0.0)) for r in records)
    assert all(r.credit["group"].strict == 1 for r in records)
    for k, record in enumerate(records):
        # Pictures j and j + 9 of another item, in that order.
        exchanged = [
            ((-abs(j - k), -abs(j - k - 9)), (-abs(j + 9 - k), -abs(j - k)))
            for j in range(12)
            if j != k
        ]
        assert record.controls["shuffled-image"] in exchanged


def test_scorers_get_whole_chunks_and_progress_is_told() -> None:
    scorer, told = SeeingScorer(), []
    run_benchmark(
        numbers(), scorer, progress=lambda *p: told.append(p), shuffled=False, chunk_size=8
    )
    assert [len(call) for call in scorer.calls] == [8, 8, 4]
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_chunks_change_no_record() -> None:
    whole, chunked = (run_benchmark(numbers(), SeeingScorer(), chunk_size=n) for n in (64, 7))
    assert whole == chunked


def test_controls_see_the_same_items_and_are_logged_by_name() -> None:
    controls = {"constant": ConstantScorer(), "length": LengthScorer()}
    record = run_benchmark(numbers(), SeeingScorer(), controls)[8]
    assert record.controls["constant"] == ((0.0, 0.0, 0.0, 0.0),)
    assert record.controls["length"] == ((-1.0, -2.0, -3.0, -3.0),)
    assert record.fingerprint == SeeingScorer.info.fingerprint


def test_shuffled_images_come_from_another_group() -> None:
    benchmark = numbers()
    for record in run_benchmark(benchmark, SeeingScorer()):
        # The score of text t is -|level - t|, so that the level of the exchanged picture shows.
        own = int(record.id.removeprefix("item-"))
        scores = record.controls["shuffled-image"][0]
        texts = [own, own + 50, own + 100, own + 150]
        levels = [k + 50 for k in range(20) if [-abs(k + 50 - t) for t in texts] == list(scores)]
        assert len(levels) == 1
        assert (levels[0] - 50) % 5 != own % 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_means_nothing_names_its_item(bad: float) -> None:
    with pytest.raises(EvaluationError, match=r"item-7.*the scorer"):
        run_benchmark(numbers(), SpoiltScorer(bad))
    with pytest.raises(EvaluationError, match=r"item-7.*control 'blind'"):
        run_benchmark(numbers(), SeeingScorer(), {"blind": SpoiltScorer(bad)})


def test_a_scorer_that_answers_too_little_is_an_error() -> None:
    class Lazy(SeeingScorer):
        def score(self, grids: Sequence[Grid]) -> list[Scores]:
            return super().score(grids)[:-1]

    class Flat(SeeingScorer):
        def score(self, grids: Sequence[Grid]) -> list[Scores]:
            return [Scores(s.values[0]) for s in super().score(grids)]

    with pytest.raises(EvaluationError, match="19 of 20"):
        run_benchmark(numbers(), Lazy())
    with pytest.raises(EvaluationError, match=r"item-0.*shape \(4,\)"):
        run_benchmark(numbers(), Flat())


def test_names_and_ids_that_clash_are_errors() -> None:
    with pytest.raises(EvaluationError, match="'random' is taken"):
        run_benchmark(numbers(), SeeingScorer(), {"random": ConstantScorer()})
    items = numbers().items
    with pytest.raises(EvaluationError, match="2 items with 1 different ids"):
        Benchmark("numbers", (items[0], items[0]), CHOICE, "1")


@given(st.lists(st.integers(0, 6).map(str), min_size=2, max_size=30))
@settings(max_examples=200, deadline=None)
def test_a_derangement_uses_each_item_once_and_leaves_every_group(groups: list[str]) -> None:
    if 2 * max(groups.count(g) for g in groups) > len(groups):
        with pytest.raises(EvaluationError, match="one group holds"):
            derange(groups)
        return
    partners = derange(groups)
    assert sorted(partners.tolist()) == list(range(len(groups)))
    assert all(groups[k] != groups[p] for k, p in enumerate(partners))


def test_an_item_that_does_not_fit_fails_alone_and_is_counted() -> None:
    class Narrow(SeeingScorer):
        def score(self, grids: Sequence[Grid]) -> list[Scores]:
            for grid in grids:
                if grid.item_id in ("item-3", "item-11"):
                    raise TokenError(f"{grid.item_id}: more tokens than the context")
            return super().score(grids)

    benchmark = numbers()
    records = run_benchmark(benchmark, Narrow(), {"constant": ConstantScorer()})
    assert [r.id for r in records] == [item.id for item in benchmark.items]
    failed = [r for r in records if r.status == "failed"]
    assert [(r.id, r.problem) for r in failed] == [
        ("item-3", "item-3: more tokens than the context"),
        ("item-11", "item-11: more tokens than the context"),
    ]
    whole = {
        r.id: r for r in run_benchmark(benchmark, SeeingScorer(), {"constant": ConstantScorer()})
    }
    assert all(whole[r.id] == r for r in records if r.status == "answered")
    result = summarize(records, CHOICE)
    assert result.status == "incomplete"
    assert (result.coverage["failed"], result.metrics["accuracy"].n) == (2, 18)


def test_a_scorer_that_no_item_fits_is_an_error() -> None:
    class Full(SeeingScorer):
        def score(self, grids: Sequence[Grid]) -> list[Scores]:
            raise TokenError("the prompt alone fills the context")

    with pytest.raises(EvaluationError, match="all 20 items of numbers failed"):
        run_benchmark(numbers(), Full())

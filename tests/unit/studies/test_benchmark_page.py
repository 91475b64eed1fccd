"""Which items a page of results lets its reader browse."""

from dataclasses import replace

from genvlm.evaluation.catalog import judge_predictions, shipped_data
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.rules import Credit
from genvlm.studies.benchmark_page import browse

RIGHT, WRONG = Credit(1.0, 1.0, 1.0, False), Credit(0.0, 0.0, 0.0, False)


def marked(record: ItemRecord, number: int, num_right: int) -> ItemRecord:
    credit = {"text": RIGHT if number < num_right else WRONG}
    return replace(record, credit=credit, tags=("rare",) if number % 100 == 50 else ("common",))


def test_browsed_items_are_spread_over_file_and_tags() -> None:
    path = shipped_data().root / "winoground_scores/clip_l14.jsonl.gz"
    benchmark, records = judge_predictions("winoground", [path], shipped_data())
    shown = browse(benchmark, [marked(r, k, 200) for k, r in enumerate(records)])
    assert [item.good for item in shown] == [False] * 20 + [True] * 20
    assert sum(item.tags == ("rare",) for item in shown) == 4  # all there are
    assert max(int(item.name) for item in shown if item.good) > 100
    # Where there are few of one kind, the other fills the page.
    few = browse(benchmark, [marked(r, k, 5) for k, r in enumerate(records)])
    assert [item.good for item in few] == [False] * 35 + [True] * 5

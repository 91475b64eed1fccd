"""What a reader sees of one benchmark: table beside controls, bars, warnings, items to browse."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genvlm.data.hashed import hash_rank
from genvlm.data.images import RGBImage
from genvlm.errors import DataError
from genvlm.evaluation.benchmark import Benchmark
from genvlm.evaluation.blocks import (
    Browser,
    BrowserItem,
    Callout,
    Figure,
    Headline,
    Interval,
    Prose,
    Section,
    Table,
)
from genvlm.evaluation.cards import Card
from genvlm.evaluation.catalog import AnyBenchmark
from genvlm.evaluation.plots import Bar, bars_with_intervals
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.report import render_report, save_report
from genvlm.scoring.protocols import Question
from genvlm.studies.evaluations import NEIGHBOUR, Evaluation

_MAX_BROWSED = 40
_MAX_TEXTS = 5


def write_evaluation_page(evaluation: Evaluation, path: Path) -> None:
    """One benchmark as one HTML page."""
    card, summary = evaluation.benchmark.card, evaluation.summary.to_json()
    title = f"{card.name} {summary['version']}"
    items = browse(evaluation.benchmark, evaluation.records)
    section, headline = benchmark_section("Result", card.headline, summary, items)
    coverage = evaluation.summary.coverage
    answered = Headline("answered", f"{coverage['answered']} of {coverage['expected']}")
    about = Section(
        "What this measures",
        [
            Table(
                ["metric", "means", "chance"],
                [[name, text, card.chance.get(name)] for name, text in card.metrics.items()],
                align=["left", "left", "right"],
            ),
            *(Callout(text, "note") for text in card.artefacts),
            Prose(f"Licence: {card.licence}."),
        ],
        card.description,
    )
    page = render_report(title, evaluation.summary.scorer, [headline, answered], [section, about])
    save_report(page, path)


def benchmark_section(
    title: str, headline: str, summary: Mapping[str, Any], items: Sequence[BrowserItem]
) -> tuple[Section, Headline]:
    """A section of a report, and its number for the page's head; `headline` is a metric."""
    metrics = list(summary["metrics"])
    rows: list[list[Any]] = [["model", *(_cell(summary["metrics"][m]) for m in metrics)]]
    for category, values in summary["categories"].items():
        rows.append([f"model, {category}", *(_cell(values.get(m)) for m in metrics)])
    for control, scores in summary["controls"]["scores"].items():
        rows.append([f"control: {control}", *(_cell(scores["metrics"][m]) for m in metrics)])
    percents = [m for m in metrics if summary["metrics"][m]["unit"] == "percent"]
    table = Table(
        ["", *metrics],
        rows,
        f"By {summary['scorer']}, strict rule (a tie is wrong), 95 % intervals; "
        "controls stand beside the model.",
        highlight_rows=[0],
        bars=percents,
    )
    blocks: list[Any] = [table]
    shown = summary["metrics"][headline]
    if headline in percents and shown["value"] is not None:
        bars = [Bar("model", *_bar(shown))]
        bars += [
            Bar(name, *_bar(scores["metrics"][headline]), control=True)
            for name, scores in summary["controls"]["scores"].items()
            if scores["metrics"][headline]["value"] is not None
        ]
        alt = f"{headline} of model and controls"
        blocks.append(Figure(bars_with_intervals(bars, title=headline), "", alt))
    blocks += _gains(summary)
    blocks += [Callout(flag, "warning") for flag in summary["flags"]]
    blocks.append(Browser(items, _selection(len(items), summary["coverage"])))
    value = "n/a" if shown["value"] is None else _number(shown)
    if summary["status"] == "incomplete":
        value = "incomplete"
    label = f"{summary['benchmark']}: {headline}"
    return Section(title, blocks), Headline(label, value, _neighbour_note(summary, headline))


def _gains(summary: Mapping[str, Any]) -> list[Table]:
    """What the model has over the best control without the picture, where that is known."""
    rows: list[list[Any]] = []
    for metric, gain in summary["controls"]["gain"]["metrics"].items():
        interval = "" if not gain["interval"] else " [{:.1f}, {:.1f}]".format(*gain["interval"])
        rows.append([metric, f"{gain['value']:+.1f}{interval}", gain["over"]])
    if not rows:
        return []
    about = "Gain over the best control that never sees the picture, ties half on both sides."
    return [Table(["metric", "gain", "over"], rows, about, align=["left", "right", "left"])]


def _selection(num_shown: int, coverage: Mapping[str, int]) -> str:
    """What the items of a page are, so that nobody reads shares off a selection."""
    num_items = sum(coverage[status] for status in ("answered", "refused", "unparseable"))
    if num_shown in (0, num_items):
        return "Items, wrong ones first."
    return (
        f"{num_shown} of {num_items} shown, wrong ones first: a selection by the hash of the id, "
        "spread over the categories; its shares of right and wrong are not those of all."
    )


def browse(benchmark: AnyBenchmark, records: Sequence[ItemRecord]) -> list[BrowserItem]:
    """Some items with their pictures, the wrong ones first."""

    def good(record: ItemRecord) -> bool | None:
        if not record.credit:
            return None
        return all(c.strict == 1 for c in record.credit.values())

    counted = [r for r in records if r.status != "failed"]
    right = _spread([r for r in counted if good(r)])
    wrong = _spread([r for r in counted if not good(r)])
    wrong = wrong[: _MAX_BROWSED - min(len(right), _MAX_BROWSED // 2)]
    chosen = [*wrong, *right[: _MAX_BROWSED - len(wrong)]]
    if isinstance(benchmark, Benchmark):
        grids = {item.id: item.grid for item in benchmark.items}
        return [
            _scored(r, good(r), grids[r.id].images, grids[r.id].texts, benchmark.card)
            for r in chosen
        ]
    asked = {item.id: item.questions for item in benchmark.items}
    return [_answered(r, good(r), asked[r.id]) for r in chosen]


def _spread(records: Sequence[ItemRecord]) -> list[ItemRecord]:
    """By the hash of the id, one of every combination of tags before a second of any."""
    seen: Counter[tuple[str, ...]] = Counter()
    turns = []
    for record in sorted(records, key=lambda r: hash_rank(r.id)):
        turns.append((seen[record.tags], record))
        seen[record.tags] += 1
    return [record for _, record in sorted(turns, key=lambda turn: turn[0])]


def _scored(
    record: ItemRecord,
    good: bool | None,
    images: Sequence[RGBImage],
    texts: Sequence[str],
    card: Card,
) -> BrowserItem:
    assert record.scores is not None
    scores = [list(row) for row in record.scores]
    correct: tuple[int, ...] = ()
    if card.rule == "choice":
        correct = (record.target,)
    elif card.rule == "grid2x2":
        correct = (0, 1)
    shown = list(texts)
    if len(shown) > _MAX_TEXTS and correct:  # the right text and the best others
        order = sorted(range(len(shown)), key=lambda j: -scores[0][j])
        best = [j for j in order if j != correct[0]][: _MAX_TEXTS - 1]
        keep = [correct[0], *best]
        shown, correct = [shown[j] for j in keep], (0,)
        scores = [[row[j] for j in keep] for row in scores]
    return BrowserItem(_load(images), shown, scores, good, record.tags, record.id, correct)


def _answered(
    record: ItemRecord, good: bool | None, questions: Mapping[str, Question]
) -> BrowserItem:
    lines = []
    for said in record.answers:
        name = f" ({said.question})" if said.question else ""
        # A released prediction seldom tells its prompt: then what the benchmark asks.
        lines.append((f"asked{name}", said.prompt or questions[said.question].prompt))
        read = "" if said.parsed == said.raw else f"  [read as: {said.parsed or said.status}]"
        lines.append((f"said{name}", said.raw + read))
    lines.append(("right", _target(record.target)))
    images = next(iter(questions.values())).images
    return BrowserItem(_load(images), [], [], good, record.tags, record.id, lines=lines)


def _target(target: Any) -> str:
    if isinstance(target, dict):
        return ", ".join(f"{key}: {value}" for key, value in target.items())
    return ", ".join(map(str, target)) if isinstance(target, list) else str(target)


def _load(images: Sequence[RGBImage]) -> list[RGBImage]:
    """The pictures, or none of them where one is not at hand."""
    try:
        return list(images)
    except DataError:
        return []


def _neighbour_note(summary: Mapping[str, Any], metric: str) -> str:
    neighbour = summary["controls"]["scores"].get(NEIGHBOUR)
    return f"{NEIGHBOUR} {neighbour['metrics'][metric]['value']:.1f} %" if neighbour else ""


def _number(metric: Mapping[str, Any]) -> str:
    return f"{metric['value']:.1f} %" if metric["unit"] == "percent" else f"{metric['value']:.3f}"


def _cell(metric: Mapping[str, Any] | None) -> Interval | float | str | None:
    if metric is None or metric["value"] is None:
        return None
    value, interval = metric["value"], metric["interval"]
    if metric["unit"] != "percent":
        between = "" if not interval else " [{:.3f}, {:.3f}]".format(*interval)
        return f"{value:.4f}{between}"
    if not interval:
        return float(value)
    return Interval(value, min(interval[0], value), max(interval[1], value))


def _bar(metric: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = metric["interval"] or (metric["value"], metric["value"])
    return float(metric["value"]), float(low), float(high)

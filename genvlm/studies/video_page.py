"""What a reader sees of a benchmark of clips: tables beside controls, and quadruplets that play."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genvlm.data.hashed import hash_rank
from genvlm.errors import DataError
from genvlm.evaluation.blocks import (
    Block,
    Callout,
    Cell,
    Headline,
    Prose,
    Section,
    Table,
)
from genvlm.evaluation.blocks import Interval as IntervalCell
from genvlm.evaluation.films import Film, Films
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.report import render_report, save_report
from genvlm.evaluation.results import Measured, Summary
from genvlm.studies.video_evaluations import VideoEvaluation

_TIES = {"pair": "wrong", "quadruplet": "half", "auc": "half"}
"""What a tie counts, by metric of the rule of quadruplets."""
_NUM_MISSED = 3
"""Of a category, that are shown beside one that is right."""
_OF_PAIRS = ("A, lawful", "A, broken", "B, lawful", "B, broken")
_OF_SETS = ("lawful", "broken", "other lawful", "other broken")
"""Where which clips begin alike is not known."""


def write_video_page(evaluation: VideoEvaluation, path: Path) -> None:
    """One benchmark of clips as one HTML page."""
    card, summary = evaluation.benchmark.card, evaluation.summary
    headline = card.headline
    tiles = [
        Headline(f"{name or summary.benchmark}: {headline}", _said(found[headline]))
        for name, found in (("", summary.metrics), *summary.categories.items())
    ]
    coverage = summary.coverage
    tiles.append(Headline("answered", f"{coverage['answered']} of {coverage['expected']}"))
    sections = [_overview(summary, headline)]
    sections += [_category(evaluation, tag) for tag in summary.categories]
    sections.append(_about(evaluation))
    title = f"{card.name} {summary.version}: are clips that break a law more surprising?"
    save_report(render_report(title, summary.scorer, tiles, sections), path)


def _overview(summary: Summary, metric: str) -> Section:
    """The headline of every category, and everything over all items."""
    named = {"model": (summary.metrics, summary.categories)} | {
        f"control: {name}": (table.metrics, table.categories)
        for name, table in summary.controls.scores.items()
    }
    tags = list(summary.categories)
    rows: list[list[Cell]] = [
        [name, *(_cell(categories[tag][metric]) for tag in tags), _cell(metrics[metric])]
        for name, (metrics, categories) in named.items()
    ]
    blocks: list[Block] = [
        Table(
            ["", *tags, "all"], rows,
            f"{metric}, percent (a tie is {_TIES[metric]}), with 95 % intervals of whole "
            "quadruplets",
            highlight_rows=[0], bars=[*tags, "all"],
        ),
        *(Callout(flag, "warning") for flag in summary.flags),
    ]  # fmt: skip
    intro = (
        "Surprise is minus the log-probability, in nats, of the codes behind the first frames. "
        "Controls know less than the model; where one is off 50 in either direction, ties counted "
        "half, what is measured may need no physics."
    )
    return Section("Result", blocks, intro)


def _category(evaluation: VideoEvaluation, tag: str) -> Section:
    """One law: every metric of model and controls, a quadruplet that is right, and missed ones."""
    summary = evaluation.summary
    metrics = list(summary.metrics)
    rows: list[list[Cell]] = [["model", *(_cell(summary.categories[tag][m]) for m in metrics)]]
    for name, table in summary.controls.scores.items():
        rows.append([f"control: {name}", *(_cell(table.categories[tag][m]) for m in metrics)])
    blocks: list[Block] = [Table(["", *metrics], rows, highlight_rows=[0], bars=metrics)]
    flags = [flag for flag in summary.flags if flag.startswith(f"{tag} is confounded")]
    blocks += [Callout(flag, "warning") for flag in flags]
    mine = [r for r in evaluation.records if tag in r.tags and r.status == "answered"]
    margins = {r.id: _margin(r, evaluation) for r in mine}
    right = sorted((r for r in mine if margins[r.id] > 0), key=lambda r: hash_rank(r.id))
    wrong = sorted((r for r in mine if margins[r.id] <= 0), key=lambda r: margins[r.id])
    for record in [*right[:1], *wrong[:_NUM_MISSED]]:
        blocks += _quadruplet(evaluation, record)
    shown = ["one of these, by the hash of its id"] if right else []
    shown += [f"the {min(len(wrong), _NUM_MISSED)} that are missed by most"] if wrong else []
    have = "both pairs" if _has_pairs(evaluation) else "the sums of both kinds"
    intro = f"{len(right)} of {len(mine)} quadruplets have {have} right." + (
        f" Below, {' and '.join(shown)}." if shown else ""
    )
    return Section(tag, blocks, intro)


def _has_pairs(evaluation: VideoEvaluation) -> bool:
    """Whether a lawful and a broken clip of one row begin alike."""
    return "pair" in evaluation.benchmark.card.metrics


def _margin(record: ItemRecord, evaluation: VideoEvaluation) -> float:
    """Nats by which the lawful clip of the worse pair, or the sum of both, is more plausible."""
    values = np.asarray(record.scores)
    margins = values[:, 0] - values[:, 1]
    return float(margins.min() if _has_pairs(evaluation) else margins.sum())


def _quadruplet(evaluation: VideoEvaluation, record: ItemRecord) -> list[Block]:
    items = {item.id: item for item in evaluation.benchmark.items}
    try:
        clips = [clip for pair in items[record.id].load() for clip in pair]
    except DataError as error:
        return [Callout(f"{record.id} cannot be shown: {error}", "warning")]
    context, num_frames = evaluation.benchmark.context, len(clips[0])
    curves = [[-value for value in row] for row in record.latents] or [[] for _ in clips]
    spans = _spans(context, num_frames, len(curves[0])) if curves[0] else []
    margin = _margin(record, evaluation)
    has_pairs = _has_pairs(evaluation)
    caption = (
        f"{record.id}: the {'worse pair' if has_pairs else 'sum of both kinds'} is "
        + (f"right by {margin:.1f} nats" if margin > 0 else f"missed by {-margin:.1f} nats")
        + f"; the first {context} frames are given"
    )
    films = [
        Film(clip, label, curve)
        for clip, label, curve in zip(
            clips, _OF_PAIRS if has_pairs else _OF_SETS, curves, strict=True
        )
    ]
    return [Films(films, caption, spans, "surprise in nats a latent frame", margin > 0)]


def _spans(context: int, num_frames: int, num_latents: int) -> list[tuple[int, int]]:
    """Frames of each latent frame behind the context."""
    size = (num_frames - context) // num_latents
    return [(start, start + size - 1) for start in range(context, num_frames, size)]


def _about(evaluation: VideoEvaluation) -> Section:
    card = evaluation.benchmark.card
    rows: list[Sequence[Cell]] = [
        [name, text, card.chance.get(name)] for name, text in card.metrics.items()
    ]
    return Section(
        "What this measures",
        [
            Table(["metric", "means", "chance"], rows, align=["left", "left", "right"]),
            *(Callout(text, "note") for text in card.artefacts),
            Prose(f"Licence: {card.licence}."),
        ],
        card.description,
    )


def _said(found: Measured) -> str:
    return "n/a" if found.value is None else f"{found.value:.1f} %"


def _cell(found: Measured) -> Cell:
    if found.value is None or found.interval is None:
        return found.value
    return IntervalCell(found.value, *_bar(found)[1:])


def _bar(found: Measured) -> tuple[float, float, float]:
    assert found.value is not None
    low, high = found.interval or (found.value, found.value)
    return found.value, min(low, found.value), max(high, found.value)

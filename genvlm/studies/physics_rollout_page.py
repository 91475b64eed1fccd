"""Rollouts of balls on disk: `rollout.json`, and a page with playing clips and curves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.data.clip_files import mark_given
from genvlm.evaluation import frame_plots
from genvlm.evaluation.blocks import (
    Code,
    Figure,
    Headline,
    Interval,
    Prose,
    Section,
    Table,
)
from genvlm.evaluation.films import Film, Films
from genvlm.evaluation.frame_plots import FrameCurve, FramePanel, frame_curves
from genvlm.evaluation.plots import Bar, bars_with_intervals
from genvlm.evaluation.report import render_report, save_report
from genvlm.nn.whole_files import write_whole
from genvlm.studies.physics_rollout import CEILING, COPY, LINE, MODEL, WAYS, PhysicsRollout
from genvlm.studies.rollout_page import remove_clips

_COLOURS = {
    MODEL: frame_plots.MODEL,
    COPY: frame_plots.COPY,
    LINE: frame_plots.TRUTH,
    CEILING: frame_plots.CEILING,
}
_SHOWN, _SHOWN_LOST = 12, 6
_MARKS = "A tick: the model kept the number. Blue-grey border: given; orange: continued."


def write_physics_rollout(found: PhysicsRollout, out: Path) -> Path:
    """Write both into a folder, in place of an earlier rollout; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    remove_clips(out)
    write_whole(out / "rollout.json", json.dumps(found.to_json(), indent=1) + "\n")
    page = out / "index.html"
    save_report(_page(found), page)
    return page


def _page(found: PhysicsRollout) -> str:
    result = found.to_json()
    ways = result["ways"]
    num_frames = result["num_frames"]
    first = list(range(min(_SHOWN, len(found.clips))))
    lost = [i for i in np.flatnonzero(~found.fates[MODEL].right.all(1)).tolist() if i not in first]
    sections = [
        Section("What became of the balls", _measured(found, ways)),
        Section("The first clips", _films(found, first), f"{_MARKS} In their order, none chosen."),
    ]
    if lost:
        intro = f"{len(lost)} more clips lost the number; the first of them."
        shown = _films(found, lost[:_SHOWN_LOST])
        sections.append(Section("Where the number was lost", shown, intro))
    sections.append(Section("How it was made", [Code(json.dumps(found.about, indent=1), "json")]))
    model = ways[MODEL]
    headlines = [
        Headline("clips", str(len(found.clips)), f"{found.num_context} frames given"),
        Headline(
            f"kept the number in all {num_frames} frames", f"{model['kept_percent']:.0f} %",
            "interval {:.0f} to {:.0f}".format(*model["interval"]),
        ),
        Headline("kept by the tokenizer alone", f"{ways[CEILING]['kept_percent']:.0f} %"),
        Headline("distance in the last frame", _pixels(model["distance"][-1]), "of the balls seen"),
    ]  # fmt: skip
    subtitle = "Held-out clips of balls that are always seen, continued in token space."
    return render_report("Rollouts of balls", subtitle, headlines, sections)


def _measured(found: PhysicsRollout, ways: dict[str, Any]) -> list[Prose | Figure | Table]:
    bars = [
        Bar(
            name, way["kept_percent"], way["interval"][0], way["interval"][1],
            control=name != MODEL,
        )
        for name, way in ways.items()
    ]  # fmt: skip
    title = "percent of clips with the right number of balls in every drawn frame"
    rows = [
        [
            f"{name}: {way['is']}",
            Interval(way["kept_percent"], *way["interval"]),
            way["distance"][0],
            way["distance"][-1],
            float(np.mean(way["missing_percent"])),
        ]
        for name, way in ways.items()
    ]
    columns = [
        "way", "kept the number, %", "px off, first frame", "px off, last frame", "missing, %",
    ]  # fmt: skip
    kinds = {
        "kept_until": "percent of clips with the right number in every frame so far",
        "distance": "mean distance from the true centre of the balls that are seen, pixels",
        "missing_percent": "percent of balls of whose colour nothing is seen",
    }
    panels = [
        FramePanel(
            title,
            [FrameCurve(n, _numbers(way[key]), _COLOURS[n]) for n, way in ways.items()],
            found.num_context,
        )
        for key, title in kinds.items()
    ]
    nats = FrameCurve(MODEL, found.nll_per_code, frame_plots.MODEL)
    at = 1 + (found.num_context - 1) // (found.about["num_frames"] // len(found.nll_per_code))
    panels.append(FramePanel("nats per drawn code", [nats], at, "latent frame"))
    return [
        Prose(
            "Balls are counted by their colours. A frozen picture keeps their number without any "
            "effort and is soon far from where they are: read both columns together."
        ),
        Figure(bars_with_intervals(bars, title=title), "Wilson intervals of 95 %.", title),
        Table(columns, rows, "What became of the balls.", highlight_rows=[0]),
        Table(*_by_number(ways), "By the number of balls."),
        Figure(frame_curves(panels), "Over the frames.", "curves over the frames"),
    ]


def _by_number(ways: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    first, *_ = ways.values()
    numbers = [(n, found["clips"]) for n, found in first["by_number"].items()]
    columns = ["way", *(f"{n} ball{'s' * (n != '1')} ({num} clips), %" for n, num in numbers)]
    rows = [
        [name, *(way["by_number"][n]["kept_percent"] for n, _ in numbers)]
        for name, way in ways.items()
    ]
    return columns, rows


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _pixels(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.1f} px"


def _films(found: PhysicsRollout, numbers: Sequence[int]) -> list[Films]:
    blocks = []
    for i in numbers:
        films = [Film(mark_given(found.truth[i], len(found.truth[i])), "truth")]
        for name in WAYS:
            if name != COPY:
                films.append(Film(mark_given(found.continued[name][i], found.num_context), name))
        kept = bool(found.fates[MODEL].right[i].all())
        blocks.append(Films(films, f"{i}: {found.clips[i].caption}", good=kept))
    return blocks

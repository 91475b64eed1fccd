"""The page of a comparison of backbones."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.data.emoji import UNSEEN_VENDOR, class_concepts
from genvlm.errors import EvaluationError
from genvlm.evaluation.blocks import (
    Cell,
    Figure,
    Gallery,
    Headline,
    Interval,
    Prose,
    Section,
    Table,
    Tile,
)
from genvlm.evaluation.plots import point_curves
from genvlm.evaluation.report import render_report, save_report
from genvlm.generation.diffusion import SamplerSettings
from genvlm.nn.whole_files import write_whole
from genvlm.studies.backbones import (
    CONFLICTS,
    VENDORS,
    ScoredDrawings,
    conflicts,
    paired,
    summary_of,
)
from genvlm.studies.scene_generation import DrawnScenes

_SHOWN, _DRAWN = 12, 24
Side = Sequence[dict[str, Any]]
"""What `summary_of` says of each seed."""


def write_comparison(
    transformers: Sequence[ScoredDrawings], diffusions: Sequence[ScoredDrawings], out: Path
) -> Path:
    """Write results.json and report.html into a folder; the page.

    Seeds of the two sides are paired in their order for McNemar's test.

    Raises:
        EvaluationError: scores of a model of the other side, or of none.
    """
    if not (transformers and diffusions):
        raise EvaluationError("a comparison needs scores of both sides: give at least one of each")
    for side, sampled in ((transformers, False), (diffusions, True)):
        for scored in side:
            if bool(scored.samples) != sampled:
                raise EvaluationError(f"scores of a {scored.name} stand on the other side")
    sides = [[summary_of(s) for s in side] for side in (transformers, diffusions)]
    if len(transformers) != len(diffusions):
        raise EvaluationError(
            f"{len(transformers)} transformers and {len(diffusions)} diffusion models: give as "
            "many seeds of each, they are compared in pairs"
        )
    tests = [paired(d, t, UNSEEN_VENDOR) for t, d in zip(transformers, diffusions, strict=True)]
    out.mkdir(parents=True, exist_ok=True)
    results = {"schema": 1, "transformer": sides[0], "diffusion": sides[1], "paired": tests}
    write_whole(out / "results.json", json.dumps(results, indent=1) + "\n")
    heads = [
        Headline(f"{name}, unseen vendor", _mean([s["accuracy"][UNSEEN_VENDOR] for s in side]))
        for name, side in zip(("transformer", "diffusion"), sides, strict=True)
    ]
    sections = [
        _accuracy(sides, tests),
        _cues(sides, transformers[0], diffusions[0]),
        _weights(sides[1]),
        _elimination(sides[1]),
    ]
    page = render_report(
        "Transformer and diffusion, side by side",
        "Zero-shot classification of single drawings by Bayes' rule over 100 labels.",
        heads,
        sections,
    )
    save_report(page, out / "report.html")
    return out / "report.html"


def write_drawn(drawn: DrawnScenes, settings: SamplerSettings, out: Path) -> Path:
    """results.json and report.html of pictures that a diffusion model drew; the page."""
    shares = {
        "generated": drawn.generated,
        "control: captions shuffled": drawn.shuffled,
        "real pictures after the latent space": drawn.reconstructed,
        "real pictures": drawn.real,
    }
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "schema": 1,
        "sampler": asdict(settings),
        "shares": {name: share._asdict() for name, share in shares.items()},
    }
    write_whole(out / "results.json", json.dumps(results, indent=1) + "\n")
    rows: list[list[Cell]] = [[k, v.both_icons, v.relation, v.n] for k, v in shares.items()]
    table = Table(
        ["pictures", "both icons", "icons and relation", "captions"],
        rows,
        "Percent that show what a held-out caption says, by the nearest icon in each half.",
    )
    tiles = [
        Tile([image], [""], scene.caption, good=related)
        for scene, image, (_, related) in zip(
            drawn.scenes[:_DRAWN], drawn.images[:_DRAWN], drawn.verdicts[:_DRAWN], strict=True
        )
    ]
    head = Headline("icons and relation", f"{drawn.generated.relation:.1f} %")
    section = Section("Held-out captions drawn", [table, Gallery(tiles)])
    page = render_report("Scenes drawn by a diffusion model", _said(settings), [head], [section])
    save_report(page, out / "report.html")
    return out / "report.html"


def _said(settings: SamplerSettings) -> str:
    sampler = settings.sampler or "the schedule's own sampler"
    return f"{settings.num_steps} steps of {sampler}, guidance scale {settings.guidance_scale:g}."


def _accuracy(sides: Sequence[Side], tests: Sequence[dict[str, Any]]) -> Section:
    rows: list[list[Cell]] = [
        [
            f"{s['name']} {number}",
            *(_cell(s["accuracy"][v]) for v in VENDORS),
            *(None if e is None else 100 * e for e in s["calibration"].values()),
            f"{s['seconds_per_image']:.2f} ({s['device']})",
        ]
        for side in sides
        for number, s in enumerate(side)
    ]
    names = [f"{v}{'' if v == UNSEEN_VENDOR else ', moved'}" for v in VENDORS]
    table = Table(
        ["model", *names, "ECE before", "after", "seconds an image"],
        rows,
        "Percent right of 100 drawings each, 95 % Wilson intervals. Expected calibration error on "
        f"half of {UNSEEN_VENDOR}, before and after a temperature fitted on the other half.",
    )
    lines = [
        f"Pair {i}: {t['only_first']} {UNSEEN_VENDOR} drawings that only the diffusion model "
        f"names, {t['only_second']} that only the transformer does (exact McNemar p {t['p']:.2g})."
        for i, t in enumerate(tests)
    ]
    return Section("Who names what", [table, Prose("\n\n".join(lines))])


def _cues(sides: Sequence[Side], first: ScoredDrawings, second: ScoredDrawings) -> Section:
    rows: list[list[Cell]] = [
        [f"{s['name']} {number}", *(_cell(s["conflicts"][k]) for k in s["conflicts"])]
        for side in sides
        for number, s in enumerate(side)
    ]
    table = Table(
        ["model", "names the shape", "names the colours", "shape bias", "prefers shape of the two"],
        rows,
        "Percent of the drawings of one concept in the colours of another.",
    )
    labels = [c.label for c in class_concepts()]
    tiles = []
    for i, conflict in enumerate(conflicts()[:_SHOWN]):
        said = [labels[int(s.values[CONFLICTS][i].argmax())] for s in (first, second)]
        title = f"{conflict.shape.label} in {conflict.colour.label}"
        tiles.append(Tile([conflict.image], [f"{said[0]} / {said[1]}"], title))
    shown = Gallery(tiles, "Below each: what transformer / diffusion model name.")
    return Section("Shape against colour", [table, shown])


def _weights(side: Side) -> Section:
    names = list(side[0]["weights"]["right"])
    rows: list[list[Cell]] = [
        [f"diffusion {i}", *(_cell(s["weights"]["right"][n]) for n in names)]
        for i, s in enumerate(side)
    ]
    curves = {
        f"seed {i}": [(float(n), float(r)) for n, r in s["weights"]["right_by_num_samples"].items()]
        for i, s in enumerate(side)
    }
    title = f"right of 100 {UNSEEN_VENDOR} drawings"
    figure = Figure(
        point_curves(curves, title=title, x_label="samples of each class", log_x=True),
        "Every class is scored at the same levels and noises.",
        "Drawings named over the number of samples",
    )
    said = f"Percent right of {UNSEEN_VENDOR} by weights of levels."
    table = Table(["model", *names], rows, said)
    return Section("Weights and samples", [table, figure])


def _elimination(side: Side) -> Section:
    rows: list[list[Cell]] = []
    vendors = list(side[0]["elimination"][0]["by_vendor"])
    published = float(np.mean([s["elimination"][1]["evaluations"] for s in side]))
    for ways in zip(*(s["elimination"] for s in side), strict=True):
        evaluations = float(np.mean([w["evaluations"] for w in ways]))
        row: list[Cell] = [ways[0]["way"], f"{evaluations:,.0f}", published / evaluations]
        for vendor in vendors:
            of_vendor = [w["by_vendor"][vendor] for w in ways]
            mean = float(np.mean([w["evaluations"] for w in of_vendor]))
            row += [f"{mean:,.0f}", f"{sum(w['changed'] for w in of_vendor)}"]
        rows.append(row)
    of_vendors = [f"{v}: {what}" for v in vendors for what in ("evaluations", "other answers")]
    num = sum(s["elimination"][0]["n"] for s in side) // len(vendors)
    table = Table(
        ["way", "evaluations an image", "fewer than published", *of_vendors],
        rows,
        f"Mean over {len(side)} models; an evaluation is one class at one level and noise; other "
        f"answers than exhaustive scoring, of {num} of each vendor.",
    )
    curves = side[0]["evaluations_by_classes"]
    figure = Figure(
        point_curves(
            curves, title="evaluations an image", x_label="classes", log_x=True, log_y=True
        ),
        "The first model, its drawings of the first classes.",
        "Evaluations over the number of classes, by way of dropping classes",
    )
    return Section("Dropping classes", [table, figure])


def _cell(share: dict[str, Any]) -> Cell:
    if share["value"] is None:
        return None
    return Interval(share["value"], *share["interval"])


def _mean(shares: Sequence[dict[str, Any]]) -> str:
    return " / ".join(f"{s['right']}" for s in shares) + f" of {shares[0]['n']}"

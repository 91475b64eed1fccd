"""The page and results.json of a classification of labelled pictures."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.data.images import RGBImage
from genvlm.evaluation.blocks import (
    Block,
    Browser,
    BrowserItem,
    Callout,
    Cell,
    Figure,
    Headline,
    Interval,
    Section,
    Table,
)
from genvlm.evaluation.calibration import area_under_risk_coverage, risk_coverage
from genvlm.evaluation.plots import MAX_CLASSES, confusion, reliability, risk_coverage_curves
from genvlm.evaluation.report import render_report, save_report
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.nn.whole_files import write_whole
from genvlm.studies.classification import (
    NUM_BINS,
    Classified,
    Tempered,
    list_items,
    most_confused,
    summarize,
    temper,
)

_MAX_BROWSED, _MAX_SHOWN = 100, 5


def save_classification(
    classified: Classified, images: Sequence[RGBImage], folder: Path, *, top: int = 5
) -> dict[str, Any]:
    """Write results.json and report.html into a folder; the summary.

    Raises:
        ConfigError: too few pictures to fit a temperature on one half of them.
    """
    tempered = temper(classified)
    summary = summarize(classified, top=top, tempered=tempered)
    folder.mkdir(parents=True, exist_ok=True)
    results = summary | {"items": list_items(classified, top)}
    write_whole(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=1) + "\n")
    save_report(_page(classified, images, summary, tempered), folder / "report.html")
    return summary


def _page(
    classified: Classified,
    images: Sequence[RGBImage],
    summary: Mapping[str, Any],
    tempered: Tempered,
) -> str:
    num, names = len(classified.keys), classified.classes
    headlines = [_headline("right", summary["accuracy"])]
    top_k = summary["top_k"]
    if top_k["k"] < len(names):
        headlines.append(_headline(f"among the best {top_k['k']}", top_k))
    headlines.append(Headline("pictures", f"{num:,}", f"{len(names):,} classes"))
    sections = [
        _calibration_section(tempered),
        _selective_section(classified),
        _confusion_section(classified),
        Section(
            "Picture by picture",
            [Browser(_browsed(classified, images), "Scores are log p(class | picture) in nats.")],
            f"{min(num, _MAX_BROWSED)} of {num} pictures, chosen by the hash of their paths.",
        ),
    ]
    return render_report("Zero-shot classification", _subtitle(classified), headlines, sections)


def _subtitle(classified: Classified) -> str:
    shown = ("scorer", "templates", "temperature", "copies")
    said = [f"{k}: {classified.settings[k]}" for k in shown if k in classified.settings]
    return "; ".join(["p(class | picture) by Bayes' rule", *said]) + "."


def _headline(label: str, share: Mapping[str, Any]) -> Headline:
    low, high = share["interval"]
    return Headline(label, f"{share['value']:.1f} %", f"95 % interval {low:.1f} to {high:.1f}")


def _calibration_section(tempered: Tempered) -> Section:
    num = len(tempered.before.keys)
    sets = {"before": (tempered.before.confidences.tolist(), tempered.before.hits.tolist())}
    blocks: list[Block] = []
    if tempered.after is not None:
        fitted = f"after, temperature {tempered.temperature:.2f}"
        sets[fitted] = (tempered.after.confidences.tolist(), tempered.after.hits.tolist())
    else:
        assert isinstance(tempered.temperature, Undefined)
        blocks.append(Callout(f"No temperature was fitted: {tempered.temperature.reason}."))
    errors = [None if e is None else 100 * e for e in tempered.errors()]
    rows: list[list[Cell]] = [[name, e] for name, e in zip(sets, errors, strict=False)]
    blocks += [
        Figure(
            reliability(sets, num_bins=NUM_BINS),
            f"{num} pictures of the reporting half.",
            "Percent right against confidence in bins, before and after a temperature",
        ),
        Table(["", "expected calibration error, percent"], rows),
    ]
    intro = (
        f"A temperature is fitted on {tempered.num_fitted} pictures and reported on the other "
        f"{num}. It changes confidences and no answer."
    )
    return Section("Calibration", blocks, intro)


def _selective_section(classified: Classified) -> Section:
    curve = risk_coverage(classified.posterior.log_probs, classified.right)
    if isinstance(curve, Undefined):
        return Section("Selective prediction", [Callout(f"Undefined: {curve.reason}.")])
    area = 100 * area_under_risk_coverage(curve)
    figure = Figure(
        risk_coverage_curves({"all": (curve.coverage.tolist(), curve.risk.tolist())}),
        f"Area under the curve {area:.1f} %; a random order would give the error rate.",
        "Percent wrong among the answered, over the percent answered",
    )
    return Section("Selective prediction", [figure], "Answering only where confident.")


def _confusion_section(classified: Classified) -> Section:
    names, counts = classified.classes, classified.confusions()
    pairs = most_confused(classified)
    blocks: list[Block] = []
    if 2 <= len(names) <= MAX_CLASSES:
        blocks.append(
            Figure(
                confusion(counts.tolist(), names),
                "Shaded by the share of each right class; blue is right.",
                "Heat map of right classes against answers",
            )
        )
        rows: list[list[Cell]] = []
        for name, row, own in zip(names, counts, counts.diagonal(), strict=True):
            interval = wilson_interval(int(own), int(row.sum()))
            if not isinstance(interval, Undefined):
                cell = Interval(100 * own / row.sum(), *(100 * x for x in interval))
                rows.append([name, int(row.sum()), cell])
        blocks.append(Table(["class", "pictures", "percent right"], rows, "Each class by itself"))
    if pairs:
        listed: list[list[Cell]] = [list(pair) for pair in pairs]
        blocks.append(
            Table(
                ["right class", "answer", "pictures"], listed, "Most confused",
                align=["left", "left", "right"],
            )
        )  # fmt: skip
    else:
        blocks.append(Callout("Nothing is confused: every answer is right.", "good"))
    return Section("What is taken for what", blocks)


def _browsed(classified: Classified, images: Sequence[RGBImage]) -> list[BrowserItem]:
    order = sorted(
        range(len(images)),
        key=lambda i: hashlib.sha256(classified.keys[i].encode()).hexdigest(),
    )
    hits, items = classified.hits, []
    for i in order[:_MAX_BROWSED]:
        row, right = classified.posterior.log_probs[i], int(classified.right[i])
        shown = np.argsort(-row, kind="stable")[:_MAX_SHOWN].tolist()
        if right not in shown:
            shown.append(right)
        few = len(classified.classes) <= MAX_CLASSES
        items.append(
            BrowserItem(
                images=[images[i]],
                texts=[classified.classes[c] for c in shown],
                scores=[[float(row[c]) for c in shown]],
                good=bool(hits[i]),
                tags=[classified.classes[right]] if few else [],
                name=classified.keys[i],
                correct=[shown.index(right)],
            )
        )
    return items

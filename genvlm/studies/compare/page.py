"""Write the page of a comparison, of as many cells as are done."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genvlm.config.compare import CompareConfig
from genvlm.evaluation.blocks import Callout, Headline, Section
from genvlm.evaluation.report import render_report, save_report
from genvlm.nn.whole_files import write_whole
from genvlm.studies.compare.asked import UNSEEN
from genvlm.studies.compare.cells import Cell, plan_cells
from genvlm.studies.compare.curves import curve_sections
from genvlm.studies.compare.paired import SWAPPED
from genvlm.studies.compare.results import (
    SCHEMA,
    Baselines,
    Results,
    compare_records,
    split_items,
)
from genvlm.studies.compare.sections import table_sections

_PERCENT = "\N{NO-BREAK SPACE}%"


def write_page(
    config: CompareConfig,
    records: Mapping[Cell, dict[str, Any]],
    out: Path,
    baselines: Baselines | None = None,
) -> Path:
    """results.json, items.json (what every item earned) and report.html; the page's path.

    Raises:
        EvaluationError: two models were not asked the same items.
    """
    results = compare_records(config, records, baselines)
    parts = {cell.name: split_items(record) for cell, record in records.items()}
    summary = {
        "schema": SCHEMA,
        **results.to_json(),
        "records": {name: lean for name, (lean, _) in parts.items()},
    }
    items = {name: found for name, (_, found) in parts.items()}
    if baselines is not None:
        items["baselines"] = dict(baselines)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "items.json", json.dumps({"schema": SCHEMA, "cells": items}) + "\n")
    write_whole(out / "results.json", json.dumps(summary) + "\n")
    documents = "the same documents"
    if config.data_share is not None:
        documents = f"the same {100 * config.data_share:g}{_PERCENT} of the documents"
    page = render_report(
        "Families of models on equal terms",
        f"{len(config.recipes)} recipes, {documents}, {config.training_flops / 1e12:g} "
        "TFLOPs of training each, forward and backward. Every table is computed from the records "
        "in `items.json` and `results.json`.",
        _headlines(config, records, results),
        [*table_sections(results), *curve_sections(config, records), _missing(results)],
    )
    save_report(page, out / "report.html")
    return out / "report.html"


def _headlines(
    config: CompareConfig, records: Mapping[Cell, Any], results: Results
) -> list[Headline]:
    num, seeds = len(plan_cells(config)), len(config.seeds)
    done = num - len(results.missing) - len(results.unfinished)
    heads = [Headline("models trained and asked", f"{done} of {num}", f"seeds: {seeds}")]
    for name, title in ((UNSEEN, f"best on the {UNSEEN}"), (SWAPPED, f"best on {SWAPPED}")):
        if name in results.paired:
            found = results.paired[name]
            same = found.not_told_apart
            note = f"not told apart: {', '.join(same)}" if same else ""
            heads.append(
                Headline(title, f"{found.best} {found.means[found.best]:.1f}{_PERCENT}", note)
            )
    pixels = results.baselines.get(("drawings", UNSEEN))
    if pixels is not None:
        heads.append(
            Headline(f"nearest training drawing, {UNSEEN}", f"{pixels:.1f}{_PERCENT}", "pixels")
        )
    return heads


def _missing(results: Results) -> Section:
    said = []
    if results.missing:
        names = ", ".join(f"`{name}`" for name in results.missing)
        said.append(f"{len(results.missing)} cells have no record: {names}.")
    said += [
        f"`{name}` was not asked yet: {', '.join(left)}."
        for name, left in results.unfinished.items()
    ]
    if not said:
        return Section("Not done yet", [Callout("Every cell was asked everything.", "good")])
    return Section("Not done yet", [Callout("\n\n".join(said), "warning")])

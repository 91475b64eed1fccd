"""The page of a comparison, of whatever cells are done."""

import json
from pathlib import Path
from typing import Any

from genvlm.config.compare import CompareConfig, CurvesConfig
from genvlm.evaluation.blocks import Interval
from genvlm.studies.compare.asked import UNSEEN
from genvlm.studies.compare.cells import Cell, plan_cells
from genvlm.studies.compare.page import write_page
from genvlm.studies.compare.results import compare_records
from genvlm.studies.compare.summary import OverSeeds
from genvlm.studies.compare.table_cells import seeds_cell
from genvlm.testing.compared import KINDS, made_record, tiny_comparison

CURVES = CurvesConfig(
    data_shares=(0.5,), data_recipes=("clip",), batch_sizes=(16,), batch_recipes=("clip",),
    frequency_recipes=("clip",),
)  # fmt: skip


def full(config: CompareConfig) -> dict[Cell, dict[str, Any]]:
    return {
        cell: made_record(
            cell,
            unseen=[True] * (cell.seed + 1) + [False] * 3,
            ranks=[1, 4],
            probes={1: [True, False], 4: [True, True]},
            blind=0.25 if cell.seed == 0 else None,
            captions={5: [True], 200: [False]} if cell.seed == 0 else None,
            error=None if cell.recipe == "diffusion" else 0.1,
        )
        for cell in plan_cells(config)
    }


def test_a_page_of_a_single_cell_says_what_was_not_asked(tmp_path: Path) -> None:
    config = tiny_comparison(curves=CURVES)
    cell = Cell(recipe="clip", seed=0)
    page = write_page(config, {cell: made_record(cell)}, tmp_path / "out")
    html = page.read_text("utf-8")
    assert html.count("Not asked yet.") == 6  # controls, retrieval, probes, curves
    assert "0 of 8" in html
    assert "<code>clip-seed-0</code> was not asked yet: retrieval, probes, frequency." in html
    assert "7 cells have no record" in html
    for name in ("siglip-seed-1", "clip-seed-0-data-0.5", "clip-seed-0-batch-16"):
        assert f"<code>{name}</code>" in html


def test_cells_without_a_record_are_named() -> None:
    config = tiny_comparison(curves=CURVES)
    records = full(config)
    del records[Cell(recipe="siglip", seed=1)], records[Cell(recipe="clip", seed=0, data_share=0.5)]
    del records[Cell(recipe="siglip", seed=0)]["probes"]
    results = compare_records(config, records)
    assert results.missing == ["siglip-seed-1", "clip-seed-0-data-0.5"]
    assert results.unfinished == {"siglip-seed-0": ["probes"]}


def test_a_page_without_any_record_can_be_read(tmp_path: Path) -> None:
    html = write_page(tiny_comparison(), {}, tmp_path).read_text("utf-8")
    assert "0 of 6" in html
    assert "not asked yet" in html


def test_every_family_has_its_place_on_the_page(tmp_path: Path) -> None:
    config = tiny_comparison(tuple(KINDS), curves=CURVES)
    baselines = {
        "drawings": {"right": {UNSEEN: {"a": True, "b": False, "c": False, "d": False}}},
        "probes": {"shots": {"1": {"right": {"a": True}}, "4": {"right": {"a": False}}}},
    }
    html = write_page(config, full(config), tmp_path, baselines).read_text("utf-8")
    assert "Not asked yet." not in html
    assert "Every cell was asked everything." in html
    assert "25.0\N{NO-BREAK SPACE}%" in html  # the nearest training drawing
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["numbers"]) == list(KINDS)
    assert results["numbers"]["clip"][f"drawings / {UNSEEN}"]["range"] == [25.0, 40.0]
    items = json.loads((tmp_path / "items.json").read_text())["cells"]
    assert items["clip-seed-0"]["frequency"]["captions"] == {"5-times-0": 5, "200-times-0": 200}
    assert "right" not in results["records"]["clip-seed-0"]["drawings"]


def test_a_single_seed_has_no_range() -> None:
    assert seeds_cell(OverSeeds({0: 25.0})) == 25
    assert seeds_cell(OverSeeds({0: 25.0, 1: 40.0})) == Interval(32.5, 25.0, 40.0)
    assert seeds_cell(None) is None

"""SugarCrepe with some of its files: what the n-gram control then learns from."""

import gzip
from pathlib import Path

import pytest

from genvlm.config.assets import asset_path
from genvlm.errors import DataError, DataWarning
from genvlm.evaluation.benchmarks.sugarcrepe import CATEGORIES, build_sugarcrepe
from genvlm.evaluation.catalog import audit, shipped_data, text_controls
from genvlm.evaluation.data_folder import DataFolder

SHIPPED = asset_path("eval/data/sugarcrepe")


def folder_of(tmp_path: Path, *categories: str) -> DataFolder:
    folder = tmp_path / "sugarcrepe"
    folder.mkdir()
    for category in categories:
        content = gzip.decompress((SHIPPED / f"{category}.json.gz").read_bytes())
        (folder / f"{category}.json").write_bytes(content)
    return DataFolder(tmp_path)


def test_a_part_learns_from_the_files_that_are_there_and_says_so(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "swap_obj", "swap_att")
    with pytest.warns(DataWarning, match=r"add_att\.json.*swap_obj learns from swap_att alone"):
        benchmark = build_sugarcrepe(data, "swap_obj", None)
    assert benchmark.version == "1+part=swap_obj+ngram_files=2"
    assert {item.fold for item in benchmark.natural.values()} == {"swap_obj", "swap_att"}
    with pytest.raises(DataError, match=r"neither sugarcrepe/add_att\.json"):
        build_sugarcrepe(data, "", None)


def test_a_part_alone_has_no_ngram_control(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "swap_obj")
    with pytest.warns(DataWarning, match="nothing to learn from: it is left out"):
        benchmark, records = audit("sugarcrepe/swap_obj", data)
    assert benchmark.version == "1+part=swap_obj+ngram_files=1"
    assert "n-gram" not in records[0].controls


def test_a_part_of_the_shipped_files_learns_from_all_others() -> None:
    benchmark = build_sugarcrepe(shipped_data(), "swap_obj", None)
    assert benchmark.version == "1+part=swap_obj"
    assert {item.fold for item in benchmark.natural.values()} == set(CATEGORIES)
    assert "n-gram" in text_controls(benchmark)

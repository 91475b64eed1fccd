"""Rows of `scripts/faults` about files of strangers, with small counts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from genvlm.testing.faults import hostile_inputs
from genvlm.testing.faults.row import Row
from genvlm.testing.hostile_pickles import hostile_pickles
from genvlm.testing.pickle_readers import READERS

LIGHT = [reader for reader in READERS if reader.light]


def survived(row: Row, at_least: int) -> None:
    assert row.failures == ()
    assert row.count >= at_least


def test_no_reader_runs_the_code_of_a_pickle(tmp_path: Path) -> None:
    survived(hostile_inputs.load_pickles(7, 0, tmp_path, readers=LIGHT), 7 * len(LIGHT))


def test_a_reader_that_trusts_torch_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch.load

    def trusting(*arguments: Any, **options: Any) -> object:
        return load(*arguments, **(options | {"weights_only": False}))

    monkeypatch.setattr(torch, "load", trusting)
    of_torch = [r for r in LIGHT if r.name.startswith(("weights of", "foreign image", "state of"))]
    row = hostile_inputs.load_pickles(4, 0, tmp_path, readers=of_torch)
    assert {failure.split("AssertionError: ")[1].split(" ran ")[0] for failure in row.failures} == {
        reader.name for reader in of_torch
    }


def test_there_are_enough_hostile_pickles_of_all_kinds(tmp_path: Path) -> None:
    made = hostile_pickles(tmp_path / "canary")
    assert len({hostile.content for hostile in made}) >= 30
    assert {hostile.loader for hostile in made} == {"pickle", "torch", "numpy"}


def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    survived(hostile_inputs.detonate_bombs(4, 2, tmp_path), 4)


def test_archives_damaged_pictures_and_videos_are_survived(tmp_path: Path) -> None:
    survived(hostile_inputs.unpack_archives(12, 0, tmp_path), 12)
    survived(hostile_inputs.damaged_images(60, 0, tmp_path), 60)
    survived(hostile_inputs.damaged_videos(20, 0, tmp_path), 20)

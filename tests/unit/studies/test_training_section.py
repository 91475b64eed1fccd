"""The page of a run that is going on, of either family."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from genvlm.errors import DataError
from genvlm.models.pretrained import save_pretrained
from genvlm.studies.run_report import build_report
from genvlm.testing.processes import ROOT
from genvlm.testing.tiny import tiny_pretrained

TINY, DIFFUSION = (ROOT / f"configs/debug/{name}.yaml" for name in ("tiny", "diffusion"))


def going_run(
    out: Path, config: Path, records: list[dict[str, Any]], events: list[dict[str, Any]]
) -> Path:
    out.mkdir()
    shutil.copy(config, out / "config.yaml")
    for name, lines in (("log.jsonl", records), ("events.jsonl", events)):
        (out / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def record(step: int, **more: float | None) -> dict[str, Any]:
    return {
        "step": step, "loss": 3.0, "loss_text": 2.0, "loss_image": 4.0, "learning_rate": 1e-3,
        "grad_norm": 1.0, "skipped": 0.0, "step_seconds": 6.0, "data_wait": 0.25,
        "max_logit_image": 9.0, "hidden_norm_image": 30.0, "tokens_per_second": 100.0, **more,
    }  # fmt: skip


SPIKE = {"event": "loss_spike", "step": 7, "name": "loss_text", "value": 9.25, "usual": 2.0}
SKIPPED = {"event": "skipped", "step": 9, "name": "grad_norm", "value": None, "usual": None}


def test_progress_curves_and_events_of_a_run_that_goes_on(tmp_path: Path) -> None:
    records = [record(5), record(10, skipped=2.0, loss_text=None, grad_norm=None)]
    page = build_report(going_run(tmp_path / "run", TINY, records, [SPIKE, SKIPPED])).read_text()
    for said in (
        "Step 10 of 20; at 6 s a step the rest takes 60 s.", "50 %", "2 steps were skipped",
        "loss_spike", "9.25", "not finite", "dashed lines mark events",
    ):  # fmt: skip
        assert said in page, said
    assert page.count("data:image/svg+xml") == 2


def test_a_finished_run_without_events_says_neither_progress_nor_trouble(tmp_path: Path) -> None:
    page = build_report(going_run(tmp_path / "run", TINY, [record(20)], [])).read_text()
    assert "All 20 steps are done" in page
    assert "skipped" not in page
    assert "steps done" not in page


def test_logs_of_earlier_versions_have_pages_too(tmp_path: Path) -> None:
    old = {"step": 10, "loss": 3.0, "loss_text": 2.0}
    page = build_report(going_run(tmp_path / "run", TINY, [old], [])).read_text()
    assert "Step 10 of 20." in page


def test_a_diffusion_run_has_a_page(tmp_path: Path) -> None:
    records = [{"step": s, "loss": 1 / s, "loss_mse": 1 / s, "mse_quarter_1": 0.5,
                "pairs_per_second": 3.0} for s in (5, 10)]  # fmt: skip
    page = build_report(going_run(tmp_path / "run", DIFFUSION, records, [])).read_text()
    assert "A diffusion model" in page
    assert "20 steps of 8 pairs" in page
    assert page.count("data:image/svg+xml") == 2


def test_parts_of_a_loss_are_drawn_where_it_has_several(tmp_path: Path) -> None:
    def drawn(config: str, **terms: float) -> str:
        records = [{"step": s, "loss": 3.0, **{f"loss_{k}": v for k, v in terms.items()}}
                   for s in (5, 10)]  # fmt: skip
        run = going_run(tmp_path / config, ROOT / f"configs/debug/{config}.yaml", records, [])
        page = build_report(run).read_text()
        pictures = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
        return "".join(base64.b64decode(picture).decode() for picture in pictures)

    pieces = {"masked_text": 2.0, "joint_text": 1.0}
    masked = drawn("masked", infonce=1.0, matching=0.5, masked_image=4.0, joint_image=3.0, **pieces)
    for said in ("masked codes", "with text", "masked pieces", "matching", "contrastive loss"):
        assert said in masked, said
    captioner = drawn("coca", infonce=1.0, caption=2.0)
    assert "caption, nats a piece" in captioner
    assert "masked codes" not in captioner
    assert "contrastive loss" not in drawn("contrastive", infonce=3.0)


@pytest.mark.parametrize("cut", [1, 40, 140])
def test_half_written_last_lines_are_left_out(tmp_path: Path, cut: int) -> None:
    run = going_run(tmp_path / "run", TINY, [record(5), record(10)], [SPIKE, SKIPPED])
    for name in ("log.jsonl", "events.jsonl"):
        text = (run / name).read_text()
        (run / name).write_text(text[: len(text) - min(cut, 60)])
    page = build_report(run).read_text()
    assert "Step 5 of 20" in page
    assert "loss_spike" in page
    assert "not finite" not in page


def test_the_title_tells_pages_of_runs_apart(tmp_path: Path) -> None:
    for name, config in (("blue", TINY), ("green", DIFFUSION)):
        page = build_report(going_run(tmp_path / name, config, [record(5)], [])).read_text()
        assert f": {name}</title>" in page


def test_drawings_and_their_licences_are_on_pages_of_runs_that_saw_them(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    scenes, captions = "- {kind: scenes, num: 48}", f"- {{kind: captions, path: {tmp_path}}}"
    stories = "- {kind: stories, num: 4}"
    text = TINY.read_text()
    assert scenes in text
    assert stories in text
    own.write_text(text.replace(scenes, captions).replace(stories, captions))
    for config, drawn in ((TINY, True), (own, False)):
        run = going_run(tmp_path / config.stem, config, [record(20)], [])
        save_pretrained(tiny_pretrained(resolution=64), run / "model", "a card")
        page = build_report(run).read_text()
        assert "parameters" in page
        assert ("Drawings of held-out families" in page) == drawn
        assert ("Drawings: " in page) == drawn


def test_a_run_that_has_logged_nothing_yet_is_to_be_waited_for(tmp_path: Path) -> None:
    run = going_run(tmp_path / "run", TINY, [], [])
    for _ in range(2):
        with pytest.raises(DataError, match=r"every 5 steps: wait.*if it was stopped.*--resume"):
            build_report(run)
        (run / "log.jsonl").unlink(missing_ok=True)
    with pytest.raises(DataError, match="is no run folder"):
        build_report(tmp_path)

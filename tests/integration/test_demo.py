"""The demo from training to its page, at a size that learns nothing but runs every part."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from genvlm.config.data import DataConfig, ScenesSource, StoriesSource
from genvlm.config.training import OptimizerConfig, TrainConfig
from genvlm.studies.demo import run_demo
from genvlm.studies.evaluations import DEMO_BENCHMARKS
from genvlm.studies.run_report import build_report
from genvlm.studies.scene_generation import drawing_settings
from genvlm.testing.tiny import tiny_pretrained, tiny_transformer_config
from genvlm.training.loop import Progress

RICH = TrainConfig(
    model=tiny_transformer_config(context_length=384, initializer_std=0.05),
    data=DataConfig(
        sources=(
            ScenesSource(num=12, vendors=("noto", "twemoji"), three=0.3, counts=0.4),
            StoriesSource(num=2),
        )
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    num_steps=2,
    global_batch_size=4,
    micro_batch_size=4,
    log_every=1,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    stages: list[str] = []
    page = run_demo(
        RICH,
        out,
        progress=Progress(),
        stage=stages.append,
        begun=lambda: (out / "commands.txt").write_text("genvlm demo --out here"),
        num_pictures=3,
        eval_limit=4,
    )
    assert page == out / "report.html"
    assert stages[0] == "training"
    assert stages[-1] == "writing the report"
    return out


def test_a_model_of_rich_scenes_is_asked_everything(run: Path) -> None:
    summaries = {
        path.parent.name: json.loads(path.read_text()) for path in run.glob("eval/*/summary.json")
    }
    assert summaries.keys() == set(DEMO_BENCHMARKS)
    assert {s["status"] for s in summaries.values()} == {"complete"}
    versions = {name: s["version"] for name, s in summaries.items() if name.startswith("scenes")}
    assert "vendor=fluent" in versions["scenes-fluent"]
    assert "three=0.35" in versions["scenes-rich"]
    assert "vendor=fluent" not in versions["scenes-rich"]
    assert len(set(versions.values())) == 4


def test_generated_pictures_stand_beside_controls_and_neighbours(run: Path) -> None:
    results = json.loads((run / "scene_generation" / "results.json").read_text())
    assert results["n"] == len(results["items"]) == 3
    assert "real pictures" in results["shares"]
    assert "control: untrained model" in results["shares"]
    for item in results["items"]:
        assert (run / "scene_generation" / item["image"]).is_file()
        assert (run / "scene_generation" / item["nearest"]).is_file()


def test_the_page_holds_every_part_and_nothing_from_outside(run: Path) -> None:
    page = (run / "report.html").read_text()
    for said in ("Generated pictures", "Interleaved stories", "unseen vendor", "genvlm demo --out"):
        assert said in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "data:image/png;base64" in page


def test_a_report_of_an_unfinished_run_has_the_parts_that_there_are(
    run: Path, tmp_path: Path
) -> None:
    for name in ("config.yaml", "log.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    page = build_report(tmp_path).read_text()
    assert "Training" in page
    assert "Generated pictures" not in page


def test_a_model_of_plain_scenes_is_asked_less() -> None:
    from genvlm.studies import demo

    plain = replace(RICH, data=DataConfig(sources=(ScenesSource(num=4),)))
    assert demo._benchmarks(plain) == ("scenes", "emoji-pairs", "emoji-classes")
    assert demo._vendors(plain) == ("noto",)
    assert demo._vendors(RICH) == ("noto", "twemoji")


def test_a_model_without_condition_dropout_is_not_guided() -> None:
    assert drawing_settings(tiny_pretrained()).guidance_scale > 1
    assert drawing_settings(tiny_pretrained(condition_dropout=0.0)).guidance_scale == 1

"""What stands in the log of a run."""

import builtins
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genvlm.config.training import OptimizerConfig, RunConfig
from genvlm.errors import ConfigError
from genvlm.testing.processes import ROOT
from genvlm.training.engine import StepResult
from genvlm.training.run_log import RunLog, StepTime, summarise
from genvlm.training.totals import Mean

CONFIG = RunConfig(
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
    num_steps=6,
    global_batch_size=4,
    micro_batch_size=4,
    log_every=2,
)


def result(loss: float = 2.0, count: int = 10, norm: float = 1.0, top: float = 5.0) -> StepResult:
    return StepResult(
        {"text": loss}, {"text": count}, norm, not math.isfinite(norm),
        {"hidden_norm_text": Mean(10 * loss, count)}, {"max_logit_text": top},
    )  # fmt: skip


def new_log(
    out: Path, config: RunConfig = CONFIG, *, start: int = 0, said: list[str] | None = None
) -> RunLog:
    return RunLog(
        config, out, start=start, unit="tokens", writes=True,
        parameter_norm=lambda: 7.0, say=(said if said is not None else []).append,
    )  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_means_weigh_tokens_and_maxima_are_those_of_any_step() -> None:
    record = summarise(CONFIG, 2, [result(2.0, 10, top=9.0), result(4.0, 30)])
    assert record["loss"] == record["loss_text"] == 3.5
    assert record["hidden_norm_text"] == 35
    assert record["max_logit_text"] == 9


def test_a_skipped_step_enters_no_mean_though_its_own_loss_is_finite() -> None:
    """The spoiled gradient may be that of another process, or of the backward pass alone."""
    spoiled = result(100.0, 90, norm=math.inf, top=99.0)
    record = summarise(CONFIG, 2, [result(2.0, 10, top=9.0), spoiled])
    assert record["loss"] == record["loss_text"] == 2
    assert record["hidden_norm_text"] == 20
    assert record["max_logit_text"] == 9
    assert (record["grad_norm"], record["skipped"]) == (1, 1)
    alone = summarise(CONFIG, 2, [spoiled])
    assert math.isnan(alone["loss"])
    assert "loss_text" not in alone


def test_speed_is_that_of_the_window_and_waiting_a_share_of_it(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    for step, took in enumerate([StepTime(1.0, 9.0), StepTime(1.0, 9.0)], 1):
        log.add(result(count=10), step, took)
    assert log.add(result(count=40), 3, StepTime(0.0, 1.0)) is None
    record = log.add(result(count=60), 4, StepTime(1.0, 2.0))
    assert record is not None
    assert record["tokens_per_second"] == 25
    assert record["step_seconds"] == 2
    assert record["data_wait"] == 0.25
    assert record["parameter_norm"] == 7
    first, second = lines(tmp_path / "log.jsonl")
    assert first["tokens_per_second"] == 1
    assert second == pytest.approx(record)


def test_a_lost_step_spoils_no_mean_and_stands_among_the_events(tmp_path: Path) -> None:
    said: list[str] = []
    log = new_log(tmp_path, said=said)
    log.add(result(), 1, StepTime(0, 1))
    record = log.add(result(math.nan, norm=math.inf, top=math.nan), 2, StepTime(0, 1))
    assert record is not None
    assert (record["loss"], record["grad_norm"], record["max_logit_text"]) == (2, 1, 5)
    assert record["skipped"] == 1
    log.add(result(math.nan, norm=math.nan), 3, StepTime(0, 1))
    log.add(result(math.nan, norm=math.nan), 4, StepTime(0, 1))
    assert lines(tmp_path / "log.jsonl")[1]["loss"] is None  # JSON has no NaN
    events = lines(tmp_path / "events.jsonl")
    assert [(e["event"], e["step"], e["value"]) for e in events] == [
        ("skipped", 2, None), ("skipped", 3, None), ("skipped", 4, None),
    ]  # fmt: skip
    assert [s.split(":")[0] for s in said] == ["step 2", "step 3", "step 4"]


def test_events_behind_the_step_that_is_resumed_are_cut_as_records_are(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    for step in range(1, 5):
        log.add(result(norm=math.nan), step, StepTime(0, 1))
    new_log(tmp_path, start=2)
    assert [e["step"] for e in lines(tmp_path / "events.jsonl")] == [1, 2]
    assert [r["step"] for r in lines(tmp_path / "log.jsonl")] == [2]


def test_tensorboard_shows_the_numbers_of_the_log(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = replace(CONFIG, tensorboard=True)
    log = new_log(tmp_path, config)
    for step in range(1, 5):
        log.add(result(loss=step), step, StepTime(0, 1))
    new_log(tmp_path, config, start=2).add(result(loss=8.0), 6, StepTime(0, 1))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(s.step, s.value) for s in events.Scalars("loss_text")] == [(2, 1.5), (6, 8.0)]
    assert "max_logit_text" in events.Tags()["scalars"]


def test_without_the_package_only_those_who_ask_for_tensorboard_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    new_log(tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'genvlm\[tensorboard\]'"):
        new_log(tmp_path, replace(CONFIG, tensorboard=True))


def test_the_manual_has_every_key(tmp_path: Path) -> None:
    log = RunLog(
        CONFIG, tmp_path, start=0, unit="tokens", writes=True, parameter_norm=lambda: 7.0,
        flops_per_token=lambda length: 1e12 * length, peak_flops=1e15,
    )  # fmt: skip
    log.add(result(count=40), 1, StepTime(0, 1))
    record = log.add(result(count=40), 2, StepTime(0, 1))
    assert record is not None
    # 40 tokens a second in rows of 10, as four rows are a batch.
    assert (record["teraflops"], record["mfu"]) == (400, 0.4)
    manual = (ROOT / "docs/logs.md").read_text()
    for key in record:
        assert f"`{key.replace('_text', '_MODALITY')}`" in manual, key

"""The log of a run: one JSON line of what happened since the last one, and one per event.

`docs/logs.md` says what each key means.
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from genvlm.config.training import RunConfig
from genvlm.errors import ConfigError
from genvlm.training.engine import StepResult
from genvlm.training.events import EventDetector
from genvlm.training.optimizers import learning_rate
from genvlm.training.run_folder import LOG_FILE, cut_log

EVENTS_FILE, TENSORBOARD_FOLDER = "events.jsonl", "tensorboard"
CLOCK_KEYS = ("step_seconds", "data_wait", "seconds", "teraflops", "mfu")
"""What another run of the same configuration has otherwise, beside what is counted per second."""
Say = Callable[[str], None]


class StepTime(NamedTuple):
    """How long a step took, in seconds."""

    waited: float
    """For its batches."""
    trained: float
    """The rest."""


class RunLog:
    """Collects the results of steps; the main process writes them down.

    Args:
        start: the step that the run goes on from; records behind it are cut.
        unit: what speed is told in: tokens, which the counts of the terms add up, or pairs.
        parameter_norm: called in every process whenever a record is due.
        say: told of every event, and of lines that a loss of power has spoiled.
        flops_per_token: of a model of tokens, by the mean length of its rows.
        peak_flops: FLOP/s of all devices together; None where nobody knows.

    Raises:
        ConfigError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        *,
        start: int,
        unit: Literal["tokens", "pairs"],
        writes: bool,
        parameter_norm: Callable[[], float],
        say: Say = lambda message: None,
        flops_per_token: Callable[[float], float] | None = None,
        peak_flops: float | None = None,
    ) -> None:
        self._config, self._unit, self._say = config, unit, say
        self._parameter_norm = parameter_norm
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._out = out if writes else None
        self._began = time.monotonic()
        self._window, self._times = list[StepResult](), list[StepTime]()
        self._detector = EventDetector(config.optimizer.warmup_steps)
        self._board = build_board(out, start) if writes and config.tensorboard else None
        if writes:
            for name in (LOG_FILE, EVENTS_FILE):
                cut_log(out / name, start, say)

    def add(self, result: StepResult, step: int, took: StepTime) -> dict[str, float] | None:
        """Take in a step; every `log_every` steps, the record that has been written.

        Args:
            step: how many steps are done with it.
        """
        self._window.append(result)
        self._times.append(took)
        for event in self._detector.events(result, step):
            self._say(event.sentence)
            self._append(EVENTS_FILE, event.as_json())
        if step % self._config.log_every and step != self._config.num_steps:
            return None
        record = summarise(self._config, step, self._window)
        record["parameter_norm"] = self._parameter_norm()
        record |= self._speed()
        self._window.clear()
        self._times.clear()
        self._append(LOG_FILE, record)
        if self._board is not None:
            for name, value in record.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        return record

    def _speed(self) -> dict[str, float]:
        waited, trained = (sum(part) for part in zip(*self._times, strict=True))
        seconds = waited + trained
        rows = self._config.global_batch_size * len(self._window)
        counted: float = rows  # losses of a pair may count its patches or pieces
        if self._unit == "tokens":
            counted = sum(sum(result.counts.values()) for result in self._window)
        speed = {
            f"{self._unit}_per_second": round(counted / seconds, 1),
            "step_seconds": seconds / len(self._times),
            "data_wait": waited / seconds,
            "seconds": round(time.monotonic() - self._began, 3),
        }
        if self._flops_per_token is not None:
            rate = counted * self._flops_per_token(counted / rows) / seconds
            speed["teraflops"] = rate / 1e12
            if self._peak_flops is not None:
                speed["mfu"] = rate / self._peak_flops
        return speed

    def _append(self, name: str, content: dict[str, Any]) -> None:
        if self._out is None:
            return
        # JSON knows neither NaN nor infinity.
        finite = {
            key: None if isinstance(v, float) and not math.isfinite(v) else v
            for key, v in content.items()
        }
        with (self._out / name).open("a") as file:
            file.write(json.dumps(finite) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a checkpoint must not outlast the lines of its steps


def summarise(config: RunConfig, step: int, window: Sequence[StepResult]) -> dict[str, float]:
    """Means over all that was counted since the last record: one batch holds like documents.

    Steps that were skipped enter none of it; NaN where there are no others.
    """
    sums, counts = dict[str, float](), Counter[str]()
    maxima = dict[str, float]()
    stepped = [result for result in window if not result.skipped]
    for result in stepped:
        terms = {f"loss_{n}": (value, result.counts[n]) for n, value in result.terms.items()}
        for name, (mean, count) in (terms | result.means).items():
            if math.isfinite(mean):
                sums[name] = sums.get(name, 0.0) + mean * count
                counts[name] += count
        for name, value in result.maxima.items():
            if math.isfinite(value):
                maxima[name] = max(value, maxima.get(name, value))
    losses = [name for name in sums if name.startswith("loss_")]
    means = {name: total / counts[name] for name, total in sums.items()}
    norms = [result.grad_norm for result in stepped if math.isfinite(result.grad_norm)]
    return {
        "step": step,
        "loss": _ratio(sum(sums[n] for n in losses), sum(counts[n] for n in losses)),
        **{name: means[name] for name in losses},
        "learning_rate": learning_rate(config.optimizer, step - 1, config.num_steps),
        "grad_norm": _ratio(sum(norms), len(norms)),
        "skipped": float(sum(r.skipped for r in window)),
        **{name: mean for name, mean in means.items() if name not in losses},
        **maxima,
    }


def _ratio(total: float, count: int) -> float:
    return total / count if count else math.nan


def build_board(out: Path, start: int) -> Any:
    """A writer of TensorBoard's event files; what an earlier start wrote behind `start` is hidden.

    Raises:
        ConfigError: the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "tensorboard: true needs the package: pip install 'genvlm[tensorboard]', or leave the "
            "key out (log.jsonl holds the same numbers)"
        ) from None
    return SummaryWriter(str(out / TENSORBOARD_FOLDER), purge_step=start + 1)

"""The log of a run: one JSON line of what happened since the last one."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from genvlm.config.training import RunConfig
from genvlm.training.engine import StepResult, learning_rate
from genvlm.training.run_folder import LOG_FILE, cut_log


class RunLog:
    """Collects the results of steps; the main process writes them down.

    Args:
        start: the step that the run goes on from; records behind it are cut.
        unit: what the counts of the objective's terms count.
    """

    def __init__(
        self, config: RunConfig, out: Path, *, start: int, unit: str, writes: bool
    ) -> None:
        self._config, self._unit = config, unit
        self._path = out / LOG_FILE if writes else None
        self._began, self._counted, self._window = time.monotonic(), 0, list[StepResult]()
        if self._path is not None:
            cut_log(self._path, start)

    def add(self, result: StepResult, step: int) -> dict[str, float] | None:
        """Take in a step; every `log_every` steps, the record that has been written.

        Args:
            step: how many steps are done with it.
        """
        self._counted += sum(result.counts.values())
        self._window.append(result)
        if step % self._config.log_every and step != self._config.num_steps:
            return None
        record = summarise(self._config, step, self._window)
        rate = self._counted / (time.monotonic() - self._began)
        record[f"{self._unit}_per_second"] = round(rate, 1)
        self._window.clear()
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        return record


def summarise(config: RunConfig, step: int, window: Sequence[StepResult]) -> dict[str, float]:
    """Means over all that was counted since the last record: one batch holds like documents."""
    sums, counts = dict[str, float](), Counter[str]()
    for result in window:
        for name, mean in result.terms.items():
            sums[name] = sums.get(name, 0.0) + mean * result.counts[name]
            counts[name] += result.counts[name]
    return {
        "step": step,
        "loss": sum(sums.values()) / max(sum(counts.values()), 1),
        **{f"loss_{name}": total / counts[name] for name, total in sums.items()},
        "learning_rate": learning_rate(config.optimizer, step - 1, config.num_steps),
        "grad_norm": sum(r.grad_norm for r in window) / len(window),
        "skipped": float(sum(r.skipped for r in window)),
    }

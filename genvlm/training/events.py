"""What goes wrong in training, found in the numbers of each step: spikes, drifting norms, NaN."""

import math
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from genvlm.training.engine import StepResult

WINDOW, FEWEST = 128, 32
"""Steps that a value is compared with, and how many there must be at least."""
SPIKE_DEVIATIONS = 8.0
"""Robust standard deviations above the median: of normal noise, one value in 10^15."""
SPIKE_RISE = 0.1
"""And so much of the median: a loss that hardly varies is not allowed to vary by nothing."""
DRIFT_FACTOR = 1.5
_NORMAL_MAD = 1.4826  # the standard deviation of normal values is so many times their MAD


@dataclass(frozen=True)
class Event:
    """Something that whoever looks after a run should know."""

    kind: Literal["loss_spike", "norm_drift", "skipped"]
    step: int
    name: str
    """The key of the log that it was seen in."""
    value: float
    usual: float | None
    """What the value was before; None where it was not finite."""

    def as_json(self) -> dict[str, Any]:
        """A line of `events.jsonl`."""
        return {
            "event": self.kind, "step": self.step, "name": self.name,
            "value": self.value, "usual": self.usual,
        }  # fmt: skip

    @property
    def sentence(self) -> str:
        """The same for people."""
        match self.kind:
            case "loss_spike":
                what = f"{self.name} jumped to {self.value:.3f} from about {self.usual:.3f}"
            case "norm_drift":
                what = (
                    f"{self.name}, the ratio of hidden norms, went to {self.value:.2f} from "
                    f"{self.usual:.2f}: {_direction(self.value, self.usual or 1.0)}"
                )
            case "skipped":
                what = "the gradient was not finite; the step was skipped"
        return f"step {self.step}: {what}"


def _direction(ratio: float, before: float) -> str:
    if abs(math.log(ratio)) > abs(math.log(before)):
        return "norms that drift apart precede a divergence"
    return "the norms have come closer, which is no bad sign"


@dataclass
class SpikeDetector:
    """Finds the beginnings of jumps: far above the median of a window, and above all of it.

    The second rule is for batches of two kinds, whose losses have two levels; by it, jumps of one
    height are told of once in a window.
    """

    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _goes_on: bool = False

    def usual(self, value: float) -> float | None:
        """The median that a value jumps from; None where it does not, or the jump goes on."""
        recent, goes_on = list(self._recent), self._goes_on
        self._recent.append(value)
        if len(recent) < FEWEST:
            return None
        median = statistics.median(recent)
        deviation = _NORMAL_MAD * statistics.median(abs(v - median) for v in recent)
        unlikely = max(SPIKE_DEVIATIONS * deviation, SPIKE_RISE * abs(median))
        self._goes_on = value > median + unlikely
        new = value > max(recent) + unlikely / 2
        return median if self._goes_on and new and not goes_on else None


@dataclass
class DriftDetector:
    """Compares the median of the newest values with that of the first ones, by their ratio.

    Where it has moved by DRIFT_FACTOR, it is compared with its new self from there on.
    """

    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=FEWEST))
    _before: float | None = None

    def moved(self, value: float) -> tuple[float, float] | None:
        """(now, before) where it has moved."""
        self._recent.append(value)
        if len(self._recent) < FEWEST:
            return None
        now = statistics.median(self._recent)
        before = self._before
        if before is None or now <= 0 or before <= 0:
            self._before = now
            return None
        if abs(math.log(now / before)) < math.log(DRIFT_FACTOR):
            return None
        self._before = now
        return now, before


class EventDetector:
    """Looks at every step; the warm-up of the learning rate is not looked at.

    Its memory begins anew when a run is resumed: for FEWEST steps it finds only skipped ones.
    """

    def __init__(self, warmup_steps: int) -> None:
        self._warmup_steps = warmup_steps
        self._spikes = dict[str, SpikeDetector]()
        self._drifts = dict[str, DriftDetector]()

    def events(self, result: StepResult, step: int) -> Iterator[Event]:
        """What is wrong with a step; `step` steps are done with it."""
        if result.skipped:
            yield Event("skipped", step, "grad_norm", result.grad_norm, None)
        if step <= self._warmup_steps:
            return
        for term, loss in result.terms.items():
            if not math.isfinite(loss):
                continue
            name = f"loss_{term}"
            usual = self._spikes.setdefault(name, SpikeDetector()).usual(loss)
            if usual is not None:
                yield Event("loss_spike", step, name, loss, usual)
        norms = {n: m.value for n, m in result.means.items() if n.startswith("hidden_norm_")}
        text = norms.pop("hidden_norm_text", 0.0)
        for name, norm in norms.items():
            if not (text > 0 and 0 < norm < math.inf):
                continue
            ratio_name = f"{name} / hidden_norm_text"
            moved = self._drifts.setdefault(ratio_name, DriftDetector()).moved(norm / text)
            if moved is not None:
                yield Event("norm_drift", step, ratio_name, *moved)

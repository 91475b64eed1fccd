"""Linear probes: what a linear classifier can read from the features of a frozen model.

Multinomial logistic regression on standardised features with an L2 penalty (Alain and Bengio 2016;
Radford et al. 2021, section 3.2 and appendix A.3), fitted to convergence in float64.

N pictures, D features, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor

from genvlm.errors import EvaluationError

STRENGTHS = tuple(10.0**power for power in range(-5, 1))
# Where float64 can still tell two values of the loss apart.
GRADIENT_TOLERANCE = 1e-7
# While a strength is chosen: mean log p then differs in digits that decide nothing.
_ROUGH_TOLERANCE = 1e-5
_MAX_ITERATIONS = 2000


@dataclass(frozen=True)
class Probe:
    """A fitted classifier."""

    mean: Float64[np.ndarray, " D"]
    scale: Float64[np.ndarray, " D"]
    """What centred features are divided by: their deviation times the root of D, so that a strength
    means the same for any width. Infinite for a feature that never changes."""
    weight: Float64[np.ndarray, "C D"]
    bias: Float64[np.ndarray, " C"]
    strength: float
    """Factor of the halved squared length of the weights, beside the mean cross-entropy."""

    def log_probs(self, features: Float[np.ndarray, "N D"]) -> Float64[np.ndarray, "N C"]:
        """log p(class | picture), in nats."""
        logits = (_checked(features) - self.mean) / self.scale @ self.weight.T + self.bias
        found: np.ndarray = torch.from_numpy(logits).log_softmax(1).numpy()
        return found


def fit_probe(
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    num_classes: int,
    strength: float,
) -> Probe:
    """The minimum of mean cross-entropy + strength / 2 |weight|^2; the bias is free.

    Raises:
        EvaluationError: a feature is not finite, a label has no class, pictures and labels are not
            as many, or the gradient does not vanish.
    """
    return _fit_path(features, labels, num_classes, [strength], GRADIENT_TOLERANCE)[0]


def _fit_path(
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    num_classes: int,
    strengths: Sequence[float],
    tolerance: float,
) -> list[Probe]:
    """A probe for each strength; every fit begins where the one before it ended."""
    values = _checked(features)
    targets = np.ascontiguousarray(labels, np.int64)
    if len(values) != len(targets) or len(values) == 0:
        raise EvaluationError(f"a probe needs a label each: {len(values)} rows, {len(targets)}")
    if targets.min() < 0 or targets.max() >= num_classes:
        raise EvaluationError(
            f"labels {targets.min()} to {targets.max()} do not fit {num_classes} classes"
        )
    mean, deviation = values.mean(0), values.std(0)
    # Of features that never change a rounding error must not be blown up.
    constant = deviation <= 1e-9 * np.maximum(np.abs(mean), 1)
    scale = np.where(constant, np.inf, deviation * np.sqrt(values.shape[1]))
    rows = (values - mean) / scale
    # The optimum is made of the rows themselves, so that no more dimensions than rows are needed.
    basis = np.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else np.eye(rows.shape[1])
    reduced = torch.from_numpy(rows @ basis)
    weight = torch.zeros(num_classes, reduced.shape[1], dtype=torch.float64)
    bias = torch.zeros(num_classes, dtype=torch.float64)
    probes = []
    for strength in strengths:
        weight, bias = _minimise(
            reduced, torch.from_numpy(targets), weight, bias, strength, tolerance
        )
        probes.append(Probe(mean, scale, weight.numpy() @ basis.T, bias.numpy(), strength))
    return probes


def choose_strength(
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    folds: Sequence[tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]],
    num_classes: int,
    strengths: Sequence[float] = STRENGTHS,
) -> float:
    """Of the strengths the one with the highest mean log p of what was held out.

    Args:
        folds: for each, the rows to fit on and the rows to judge by.

    Raises:
        EvaluationError: as `fit_probe`, or there is no fold.
    """
    if not folds:
        raise EvaluationError("a strength is chosen by what is held out, and nothing is")
    path = sorted(strengths, reverse=True)
    means = np.zeros(len(path))
    for fitted, judged in folds:
        right = labels[judged]
        probes = _fit_path(features[fitted], labels[fitted], num_classes, path, _ROUGH_TOLERANCE)
        for k, probe in enumerate(probes):
            log_probs = probe.log_probs(features[judged])
            means[k] += log_probs[np.arange(len(right)), right].mean() / len(folds)
    return path[int(means.argmax())]


def probe_hits(
    probe: Probe, features: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Whether the most probable class is the right one; a tie at the top is wrong."""
    found = probe.log_probs(features)
    right = found[np.arange(len(found)), labels]
    others = found.copy()
    others[np.arange(len(found)), labels] = -np.inf
    hits: np.ndarray = right > others.max(1)
    return hits


def _minimise(
    rows: Float64[Tensor, "N R"],
    targets: Int64[Tensor, " N"],
    weight: Float64[Tensor, "C R"],
    bias: Float64[Tensor, " C"],
    strength: float,
    tolerance: float,
) -> tuple[Float64[Tensor, "C R"], Float64[Tensor, " C"]]:
    """Weight and bias, from these on. Raises EvaluationError: the gradient does not vanish."""
    weight, bias = (t.detach().clone().requires_grad_() for t in (weight, bias))
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = torch.nn.functional.cross_entropy(rows @ weight.T + bias, targets)
        value: Tensor = fit + strength / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
        loss()
    assert weight.grad is not None
    assert bias.grad is not None
    largest = max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
    if not largest <= tolerance:
        raise EvaluationError(
            f"a probe of strength {strength:g} did not converge: its gradient is still "
            f"{largest:.1e}; choose a larger strength"
        )
    return weight.detach(), bias.detach()


def _checked(features: Float[np.ndarray, "N D"]) -> Float64[np.ndarray, "N D"]:
    values = np.asarray(features, np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmax(~np.isfinite(values).all(1)))
        raise EvaluationError(f"the features of picture {row} are not finite: mend the model")
    return values

"""The bound on log p of Gaussian data by hand: every term is a KL divergence of two Gaussians.

Nothing here knows of weights of levels or of signal-to-noise ratios. D dimensions.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from genvlm.models.diffusion.schedule import NoiseSchedule, schedule_of


def chain_bound(
    x: Float64[np.ndarray, " dims"],
    mean: Float64[np.ndarray, " dims"],
    deviation: Float64[np.ndarray, " dims"],
    schedule: NoiseSchedule,
) -> float:
    """E[log p(x | x_0)] - sum of KL(q(x_s | x_t, x) | p(x_s | x_t)) - KL(q(x_T | x) | N(0, 1)).

    p(x_s | x_t) is q(x_s | x_t, x) at x = E[x | x_t] under N(mean, diag deviation^2), which is the
    best Gaussian of that variance; s = t - 1 (Ho et al. 2020, Eq. 5).
    """
    alphas, sigmas = schedule.alphas, schedule.sigmas
    last = gaussian_kl(alphas[-1] * x, sigmas[-1] ** 2, np.zeros_like(x), 1.0)
    total = -last
    for t in range(1, len(schedule)):
        s = t - 1
        step = alphas[t] / alphas[s]  # q(x_t | x_s) = N(step x_s, noise)
        noise = sigmas[t] ** 2 - step**2 * sigmas[s] ** 2
        variance = noise * sigmas[s] ** 2 / sigmas[t] ** 2
        of_x = alphas[s] * noise / sigmas[t] ** 2  # what x adds to the mean of q(x_s | x_t, x)
        error = squared_error(x, mean, deviation, alphas[t], sigmas[t])
        total -= float((of_x**2 * error / (2 * variance)).sum())
    variance = sigmas[0] ** 2 / alphas[0] ** 2
    error = squared_error(x, mean, deviation, alphas[0], sigmas[0])
    return total - float((0.5 * np.log(2 * np.pi * variance) + error / (2 * variance)).sum())


def squared_error(
    x: Float64[np.ndarray, " dims"],
    mean: Float64[np.ndarray, " dims"],
    deviation: Float64[np.ndarray, " dims"],
    alpha: float,
    sigma: float,
) -> Float64[np.ndarray, " dims"]:
    """Expectation of (x - E[x | x_t])^2 over the noise of x_t."""
    gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
    return ((1 - gain * alpha) * (x - mean)) ** 2 + (gain * sigma) ** 2


def gaussian_kl(
    mean: Float64[np.ndarray, " dims"],
    variance: float,
    other_mean: Float64[np.ndarray, " dims"],
    other_variance: float,
) -> float:
    """KL(N(mean, variance) | N(other_mean, other_variance)), added over dimensions."""
    terms = (variance + (mean - other_mean) ** 2) / other_variance - 1
    return float(0.5 * (terms + np.log(other_variance / variance)).sum())


def log_density(
    x: Float64[np.ndarray, "... dims"],
    mean: Float64[np.ndarray, " dims"],
    deviation: Float64[np.ndarray, " dims"],
) -> Float64[np.ndarray, "..."]:
    """log N(x; mean, diag deviation^2)."""
    terms = ((x - mean) / deviation) ** 2 + np.log(2 * np.pi * deviation**2)
    density: Float64[np.ndarray, ...] = -0.5 * terms.sum(-1)
    return density


def bound_gaps(
    schedules: Sequence[NoiseSchedule], *, num_dims: int = 4, num_draws: int = 200, seed: int = 0
) -> list[float]:
    """Mean of log p(x) minus its bound, in nats a dimension, of x drawn from one Gaussian."""
    rng = np.random.default_rng(seed)
    mean, deviation = rng.normal(size=num_dims), rng.uniform(0.3, 1.2, num_dims)
    x = mean + deviation * rng.normal(size=(num_draws, num_dims))
    exact = float(log_density(x, mean, deviation).mean())
    bounds = [np.mean([chain_bound(row, mean, deviation, s) for row in x]) for s in schedules]
    return [(exact - float(bound)) / num_dims for bound in bounds]


def log_linear_schedule(num_levels: int, highest: float = 10.0) -> NoiseSchedule:
    """Log signal-to-noise ratios in equal steps from `highest` to -`highest`.

    More levels make every step smaller, and so the bound tight. Those of DDPM, cosine and straight
    flow schedules do not: their first steps multiply the noise by as much as ever (2, 3/2, 4/3 ...
    for a flow, which costs 1.4 nats a dimension for any number of levels).
    """
    return schedule_of(1 / (1 + np.exp(-np.linspace(highest, -highest, num_levels))))

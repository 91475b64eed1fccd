"""Noise schedules and what a network predicts under them. B batch, T noise levels.

x_t = alpha_t x + sigma_t noise, for t = 0 (nearly clean) to T - 1 (nearly noise). The bound and its
weights are those of a chain over these levels (Ho et al. 2020, arXiv 2006.11239, Eq. 5; written by
signal-to-noise ratios as in Kingma et al. 2021, arXiv 2107.00630, Eq. 13), and so are exact for any
number of levels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from genvlm.config.diffusion import Prediction
from genvlm.config.diffusion import ScheduleKind as Kind
from genvlm.errors import ConfigError


@dataclass(frozen=True)
class NoiseSchedule:
    """alpha and sigma of every level."""

    alphas: Float64[np.ndarray, " levels"]
    sigmas: Float64[np.ndarray, " levels"]
    times: Float64[np.ndarray, " levels"]
    """What the network is told: t, and for flows 1000 sigma, as diffusers' schedulers do."""

    def __post_init__(self) -> None:
        snr = self.snr
        if not (np.isfinite(snr).all() and (np.diff(snr) < 0).all() and (snr >= 0).all()):
            raise ConfigError("a noise schedule must lower the signal-to-noise ratio at each level")

    def __len__(self) -> int:
        return len(self.alphas)

    @property
    def snr(self) -> Float64[np.ndarray, " levels"]:
        """Signal-to-noise ratio alpha^2 / sigma^2."""
        ratio: Float64[np.ndarray, " levels"] = (self.alphas / self.sigmas) ** 2
        return ratio

    def check(self, levels: Int[np.ndarray, " n"]) -> None:
        """Raises ConfigError for a level outside of 0 .. T - 1."""
        levels = np.asarray(levels)
        if levels.size and (levels.min() < 0 or levels.max() >= len(self)):
            raise ConfigError(
                f"timesteps {levels.min()} to {levels.max()} are outside of the schedule's 0 to "
                f"{len(self) - 1}"
            )

    def coefficients(
        self, levels: Int[Tensor, " batch"], like: Float[Tensor, "batch ..."]
    ) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "batch ..."]]:
        """(alpha, sigma) of each row, of `like`'s dtype and device, to be multiplied with it."""
        shape = (-1, *[1] * (like.dim() - 1))
        numbers = levels.cpu().numpy()
        alpha, sigma = (
            torch.from_numpy(table[numbers]).to(like).view(shape)
            for table in (self.alphas, self.sigmas)
        )
        return alpha, sigma

    def add_noise(
        self,
        x: Float[Tensor, "batch ..."],
        noise: Float[Tensor, "batch ..."],
        levels: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch ..."]:
        """x_t = alpha x + sigma noise."""
        alpha, sigma = self.coefficients(levels, x)
        return alpha * x + sigma * noise

    def target(
        self,
        x: Float[Tensor, "batch ..."],
        noise: Float[Tensor, "batch ..."],
        levels: Int[Tensor, " batch"],
        prediction: Prediction,
    ) -> Float[Tensor, "batch ..."]:
        """What the network is to predict.

        epsilon: the noise. v_prediction: alpha noise - sigma x (Salimans & Ho 2022).
        flow: noise - x (Liu et al. 2023, Lipman et al. 2023).
        """
        if prediction == "epsilon":
            return noise
        if prediction == "flow":
            return noise - x
        alpha, sigma = self.coefficients(levels, x)
        return alpha * noise - sigma * x

    def denoised(
        self,
        x_t: Float[Tensor, "batch ..."],
        predicted: Float[Tensor, "batch ..."],
        levels: Int[Tensor, " batch"],
        prediction: Prediction,
    ) -> Float[Tensor, "batch ..."]:
        """The clean x that a prediction stands for; infinite for epsilon where alpha is 0."""
        alpha, sigma = self.coefficients(levels, x_t)
        if prediction == "epsilon":
            return (x_t - sigma * predicted) / alpha
        if prediction == "flow":
            return (x_t - sigma * predicted) / (alpha + sigma)
        return (alpha * x_t - sigma * predicted) / (alpha**2 + sigma**2)

    def elbo_weights(self, prediction: Prediction) -> Float64[np.ndarray, " levels"]:
        """w_t: the sum over t of w_t |target - predicted|^2 is the bound's part in nats.

        Level t > 0 is the step from t to t - 1: 1/2 (SNR(t-1) - SNR(t)) |x - x_hat|^2. Level 0 is
        the decoder, a Gaussian of variance sigma_0^2 / alpha_0^2 around x_hat.
        """
        snr = self.snr
        before = np.concatenate([[2 * snr[0]], snr[:-1]])  # level 0: 1/2 SNR(0)
        difference = 0.5 * (before - snr)
        alpha, sigma = self.alphas, self.sigmas
        if prediction == "epsilon":  # |x - x_hat| = sigma / alpha |noise - predicted|
            if snr[-1] == 0:
                raise ConfigError("a schedule that ends without signal takes no epsilon prediction")
            weights: Float64[np.ndarray, " levels"] = difference / snr
        elif prediction == "flow":
            weights = difference * (sigma / (alpha + sigma)) ** 2
        else:
            weights = difference * (sigma / (alpha**2 + sigma**2)) ** 2
        return weights

    def constant_nats(self, x: Float64[np.ndarray, "batch dims"]) -> Float64[np.ndarray, " batch"]:
        """What the bound on -log p(x) has beside that sum: prior and the decoder's normalizer.

        KL(q(x_T | x) | N(0, 1)) + dims/2 log(2 pi sigma_0^2 / alpha_0^2).
        """
        alpha, sigma = self.alphas[-1], self.sigmas[-1]
        prior = 0.5 * (alpha**2 * x**2 + sigma**2 - 1 - 2 * np.log(sigma)).sum(1)
        decoder = 0.5 * x.shape[1] * np.log(2 * np.pi / self.snr[0])
        total: Float64[np.ndarray, " batch"] = prior + decoder
        return total


def build_schedule(kind: Kind, num_levels: int = 1000) -> NoiseSchedule:
    """linear: DDPM's betas; scaled_linear: Stable Diffusion's; cosine: Nichol & Dhariwal 2021's;
    flow: straight lines from data to noise.

    Raises:
        ConfigError: fewer than 2 levels.
    """
    if num_levels < 2:
        raise ConfigError(f"a noise schedule has at least 2 levels, got {num_levels}")
    steps = np.arange(num_levels, dtype=np.float64)
    if kind == "flow":
        sigmas = (steps + 1) / num_levels
        return NoiseSchedule(1 - sigmas, sigmas, 1000 * sigmas)
    if kind == "linear":
        betas = np.linspace(1e-4, 0.02, num_levels)
    elif kind == "scaled_linear":
        betas = np.linspace(0.00085**0.5, 0.012**0.5, num_levels) ** 2
    else:
        bars = np.cos((np.arange(num_levels + 1) / num_levels + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - bars[1:] / bars[:-1], 0.999)
    return schedule_of(np.cumprod(1 - betas))


def schedule_of(alphas_cumprod: Float64[np.ndarray, " levels"]) -> NoiseSchedule:
    """The variance-preserving schedule of a DDPM's cumulative products of 1 - beta."""
    bars = np.asarray(alphas_cumprod, np.float64)
    return NoiseSchedule(np.sqrt(bars), np.sqrt(1 - bars), np.arange(len(bars), dtype=np.float64))

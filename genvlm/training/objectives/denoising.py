"""Denoising: the squared error of a network's prediction. B batch, C H W of a latent."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from genvlm.data.pairs import PairBatch
from genvlm.errors import ConfigError
from genvlm.models.diffusion.model import Denoiser
from genvlm.models.diffusion.schedule import NoiseSchedule, Prediction
from genvlm.training.objectives.losses import Losses

Weighting = Literal["equal", "min_snr"]


class DenoisingObjective(nn.Module):
    """Mean squared error between target and prediction, each row times the weight of its level."""

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        prediction: Prediction,
        *,
        weighting: Weighting = "equal",
        min_snr_gamma: float = 5.0,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule, self.prediction = schedule, prediction
        self._weights = np.ones(len(schedule))
        if weighting == "min_snr":
            self._weights = min_snr_weights(schedule, prediction, min_snr_gamma)

    def forward(self, batch: PairBatch) -> Losses:
        """Losses of one micro-batch; `mse` is unweighted, also by quarter of the levels."""
        latents, levels = batch.latents, batch.levels.cpu()
        x_t = self.schedule.add_noise(latents, batch.noise, levels)
        target = self.schedule.target(latents, batch.noise, levels, self.prediction)
        # DeepSpeed keeps weights in bfloat16 and casts no inputs.
        dtype = next(self.denoiser.network.parameters()).dtype
        times = torch.from_numpy(self.schedule.times)[levels].to(latents)
        conditioning = self.denoiser.read(batch.pieces, batch.mask)
        predicted = self.denoiser(x_t.to(dtype), times, conditioning)
        errors = (predicted.to(target.dtype) - target).square().flatten(1).mean(1)
        weights = torch.from_numpy(self._weights)[levels].to(errors)
        num, measured = torch.tensor(float(len(errors)), device=errors.device), errors.detach()
        quarter = (levels * 4 // len(self.schedule)).to(errors.device)
        means = {
            f"mse_quarter_{i + 1}": torch.stack([measured[of].sum(), of.sum().to(measured)])
            for i, of in enumerate(quarter == i for i in range(4))
        }
        return Losses((errors * weights).sum(), {"mse": measured.sum()}, {"mse": num}, means, {})


def min_snr_weights(
    schedule: NoiseSchedule, prediction: Prediction, gamma: float
) -> Float64[np.ndarray, " levels"]:
    """min(SNR, gamma) on the error of the clean picture (Hang et al. 2023, arXiv 2303.09556).

    As a weight on the error of what is predicted: over SNR for epsilon; for v over SNR + 1 where
    alpha^2 + sigma^2 = 1.

    Raises:
        ConfigError: flow prediction, for which it is not defined.
    """
    alpha, sigma = schedule.alphas, schedule.sigmas
    if prediction == "flow":
        raise ConfigError("min_snr weighting is for predictions epsilon and v_prediction")
    # How far the clean picture is off when what is predicted is off by one.
    per_error = sigma / alpha if prediction == "epsilon" else sigma / (alpha**2 + sigma**2)
    weights: Float64[np.ndarray, " levels"] = np.minimum(schedule.snr, gamma) * per_error**2
    return weights

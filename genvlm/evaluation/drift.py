"""How far a continued video has drifted: its codes against those of others, its pixels likewise."""

import math

import numpy as np
from jaxtyping import Float64, Int, UInt8

# The mean squared error of rounding to whole levels: equal frames count as this near, not nearer.
_ROUNDING = 1 / 12


def js_divergence(first: Int[np.ndarray, "..."], second: Int[np.ndarray, "..."]) -> float:
    """Jensen-Shannon divergence of the histograms of two sets of codes, in nats: 0 to ln 2.

    Of few codes it is large by chance alone: compare it with what real frames have.
    """
    codes = np.concatenate([first.ravel(), second.ravel()])
    _, places = np.unique(codes, return_inverse=True)
    shares = [
        np.bincount(part, minlength=places.max() + 1) / part.size
        for part in (places[: first.size], places[first.size :])
    ]
    return max(0.0, _entropy((shares[0] + shares[1]) / 2) - sum(map(_entropy, shares)) / 2)


def latent_shifts(
    codes: Int[np.ndarray, "latents rows columns"], reference: Int[np.ndarray, "..."]
) -> list[float]:
    """The divergence of each latent frame from the codes of `reference` together."""
    return [js_divergence(latent, reference) for latent in codes]


def frame_psnr(
    frames: UInt8[np.ndarray, "frames height width 3"],
    truth: UInt8[np.ndarray, "frames height width 3"],
) -> list[float]:
    """Peak signal-to-noise ratio in dB of each frame; equal frames have 58.9, as if rounded."""
    squared = np.square(frames.astype(np.float64) - truth).mean((1, 2, 3))
    ratios: Float64[np.ndarray, " frames"] = 10 * np.log10(255**2 / np.maximum(squared, _ROUNDING))
    return [float(ratio) for ratio in ratios]


def _entropy(shares: Float64[np.ndarray, " codes"]) -> float:
    return -sum(float(p) * math.log(p) for p in shares if p > 0)

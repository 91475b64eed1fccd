"""Textured grounds with the spectrum of natural pictures: amplitudes that fall as 1/f^alpha.

(Field 1987.) A ground is a few numbers; drawing it is a pure function of them.
"""

from dataclasses import dataclass

import numpy as np

ALPHAS = (1.0, 2.0)


@dataclass(frozen=True)
class Ground:
    """A smooth gradient of colours, and noise whose amplitude falls as 1/f^alpha."""

    corners: tuple[tuple[float, float, float], ...]
    """Colours of the four corners, in levels of 255."""
    alpha: float
    contrast: float
    """Standard deviation of the noise's luminance, in levels of 255."""
    chroma: float
    """Strength of its colours as a share of that of its luminance."""
    grain: float
    """Share of the noise that drawings have too."""
    seed: tuple[int, ...]


def sample_ground(rng: np.random.Generator, seed: tuple[int, ...]) -> Ground:
    """One of a wide range; `seed` is of its noise."""
    grey = rng.uniform(50, 205) + rng.normal(0, 25, (4, 1))
    corners = grey + rng.normal(0, 20, 3) + rng.normal(0, 15, (4, 3))
    return Ground(
        corners=tuple((float(r), float(g), float(b)) for r, g, b in corners),
        # Squared: more grounds are as rough as most natural pictures (alpha 1) than are smooth.
        alpha=float(ALPHAS[0] + (ALPHAS[1] - ALPHAS[0]) * rng.random() ** 2),
        contrast=float(rng.uniform(8, 45)),
        chroma=float(rng.uniform(0.05, 0.5)),
        grain=float(rng.uniform(0, 0.6)),
        seed=seed,
    )


def draw_ground(ground: Ground, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and noise, (rows, columns, 3) each, in levels of 255 and not rounded."""
    rng = np.random.default_rng(ground.seed)
    ramp = (np.arange(side) + 0.5) / side
    ramp = ramp * ramp * (3 - 2 * ramp)
    weights = np.stack([1 - ramp, ramp])
    corners = np.array(ground.corners).reshape(2, 2, 3)
    gradient = np.einsum("ar,bc,abk->rck", weights, weights, corners)
    # Luminance, and red and yellow against their opposites, are nearly uncorrelated in nature.
    opponents = np.array([[1, 1, 1], [1, -1, 0], [0.5, 0.5, -1]])
    strengths = ground.contrast * np.array([1, ground.chroma, ground.chroma])
    return gradient, coloured_noise(rng, ground.alpha, side) @ (strengths[:, None] * opponents)


def coloured_noise(rng: np.random.Generator, alpha: float, side: int) -> np.ndarray:
    """Three independent fields (rows, columns, 3) of mean 0 and standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((3, side, side)))
    fields = np.fft.irfft2(white * frequency**-alpha, s=(side, side))
    return np.moveaxis(fields / fields.std((1, 2), keepdims=True), 0, -1)

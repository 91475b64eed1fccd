"""Test-time augmentation: the mean score of a picture and of moved copies of it."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from genvlm.data.augment import affine
from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo, Scores
from genvlm.tokenization.image import to_pixels, to_uint8

_SCALE, _DEGREES, _SHIFT = (0.85, 1.1), 10.0, 0.06


class CopiesScorer:
    """Scorer: mean over `copies` versions of each picture of another scorer's values.

    The first version is the picture itself, the others are moved, turned and scaled a little. Of
    log p(image | class) this is the mean of log-likelihoods, so that the posterior is that of a
    geometric mean and no probability of any one picture. It costs `copies` times as much.

    Raises:
        ConfigError: fewer than 1 copy, or more of a bound.
    """

    def __init__(self, scorer: Scorer, *, copies: int, seed: int = 0) -> None:
        if copies < 1:
            raise ConfigError(f"a picture is scored at least once, got {copies} copies")
        if copies > 1 and scorer.info.unit == "bound_nats":
            raise ConfigError(
                "a mean over moved copies bounds no picture's log p: leave copies out with elbo, "
                "or score by squared_error"
            )
        self._scorer, self._copies, self._seed = scorer, copies, seed
        self.info = ScorerInfo(
            name=f"{scorer.info.name}, mean of {copies} copies",
            unit=scorer.info.unit,
            settings={
                "of": scorer.info.fingerprint,
                "dtype": scorer.info.settings.get("dtype"),
                "copies": copies,
                "seed": seed,
                "moved": {"scale": list(_SCALE), "degrees": _DEGREES, "shift": _SHIFT},
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Means over versions; counts of tokens are those of one version."""
        moved = [
            Grid(
                item_id=grid.item_id,
                images=[v for image in grid.images for v in self.versions(image)],
                texts=grid.texts,
            )
            for grid in grids
        ]
        results = []
        for grid, scores in zip(grids, self._scorer.score(moved), strict=True):
            shape = (len(grid.images), self._copies, len(grid.texts))
            counts = scores.num_tokens
            results.append(
                Scores(
                    scores.values.reshape(shape).mean(1),
                    None if counts is None else counts.reshape(shape)[:, 0],
                )
            )
        return results

    def versions(self, image: RGBImage) -> list[RGBImage]:
        """The picture and its copies: drawn by seed and pixels, whatever stands beside it."""
        digest = hashlib.sha256(f"{self._seed}|{image.shape}|".encode() + image.tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
        several = to_pixels(np.repeat(image[None], self._copies - 1, 0))
        moved = affine(several, generator, scale=_SCALE, degrees=_DEGREES, shift=_SHIFT)
        return [image, *to_uint8(moved)]

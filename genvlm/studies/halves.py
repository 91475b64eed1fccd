"""Pictures in two halves: what is fitted on the first is reported on the second."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from genvlm.errors import ConfigError


def split_in_halves(keys: Sequence[str], *, fitted: str) -> Bool[np.ndarray, " keys"]:
    """True for the fitting half: the last bit of sha256 of each key decides, never its place.

    Args:
        fitted: what is fitted, for the error.

    Raises:
        ConfigError: one half is empty.
    """
    first = np.array([hashlib.sha256(k.encode()).digest()[-1] % 2 == 0 for k in keys], bool)
    if not 0 < first.sum() < len(first):
        raise ConfigError(
            f"{fitted} is fitted on one half of the pictures and reported on the other, and of "
            f"these {len(first)} one half is empty: give more pictures"
        )
    return first

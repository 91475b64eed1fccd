"""The spread of a measure in a few numbers."""

from collections.abc import Sequence

import numpy as np

_PERCENTILES = (0, 5, 50, 95, 100)


def percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """p0, p5, p50, p95 and p100; nothing where there are no values."""
    if not len(values):
        return {}
    found = np.percentile(values, _PERCENTILES)
    return {f"p{p}": round(float(v), 2) for p, v in zip(_PERCENTILES, found, strict=True)}

"""The cluster bootstrap: one set of draws for every metric, control and category of a result.

Whole groups are drawn with replacement (Field and Welsh 2007). Because all share each draw, the
difference of any two numbers is paired.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from genvlm.evaluation.statistics import NUM_RESAMPLES


class Resampling:
    """Draws of groups, `NUM_RESAMPLES` of them, by a fixed seed."""

    def __init__(self, groups: Sequence[str], seed: int = 0) -> None:
        names, self._membership = np.unique(np.asarray(groups, str), return_inverse=True)
        self.undefined = ""
        """Why there are no draws, or empty."""
        if len(names) == 0:
            self.undefined = "no answered item"
        elif len(names) == 1:
            self.undefined = "all items belong to one group"
        else:
            shares = np.full(len(names), 1 / len(names))
            rng = np.random.default_rng(seed)
            drawn = rng.multinomial(len(names), shares, size=NUM_RESAMPLES)
            # Groups first: of a small category only its own rows are touched.
            self._draws = np.ascontiguousarray(drawn.T, np.float64)

    def sums(
        self, parts: Float64[np.ndarray, "items parts"], members: Bool[np.ndarray, " items"]
    ) -> Float64[np.ndarray, "resamples parts"]:
        """Sums of the parts of the member items in every draw."""
        groups, places = np.unique(self._membership[members], return_inverse=True)
        totals = np.zeros((len(groups), parts.shape[1]))
        np.add.at(totals, places, parts[members])
        draws = self._draws if len(groups) == len(self._draws) else self._draws[groups]
        sums: Float64[np.ndarray, "resamples parts"] = draws.T @ totals
        return sums

    def of_items(
        self,
        statistic: Callable[[Float64[np.ndarray, "items parts"]], float],
        parts: Float64[np.ndarray, "items parts"],
        members: Bool[np.ndarray, " items"],
    ) -> Float64[np.ndarray, " resamples"]:
        """A statistic of the member items themselves, each as often as its group was drawn."""
        mine, groups = parts[members], self._membership[members]
        draws = self._draws[groups].T.astype(np.int64)
        return np.array([statistic(np.repeat(mine, draw, axis=0)) for draw in draws])

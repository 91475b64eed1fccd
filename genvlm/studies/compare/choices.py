"""Which family for which need, by the numbers; and what each cannot do at all.

The table of needs follows section 3.3 of arXiv 2405.17247; no choice in it is written down here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from genvlm.scoring import open as scoring
from genvlm.studies.compare.asked import METHODS, UNSEEN
from genvlm.studies.compare.paired import FIND, PROBE, SIGNIFICANT, SWAPPED, Paired
from genvlm.studies.compare.summary import Key, OverSeeds
from genvlm.studies.evaluations import PAIRS

Numbers = Mapping[str, Mapping[Key, OverSeeds]]
"""Of every recipe."""
WITHIN = 5.0
"""Points below the best that a cheaper decision may cost."""
_DRAWINGS, _ERROR, _FLOPS = ("drawings", UNSEEN), ("calibration", "all_before"), "flops"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A row of the table."""

    need: str
    chosen: str | None
    """None: no model was asked yet."""
    number: str = ""
    runner_up: str = ""
    """With its number."""
    verdict: str = ""


class Floors(NamedTuple):
    """What needs no model where recipes are tested, in percent, as far as it is known."""

    pixels: Mapping[str, float]
    chance: Mapping[str, float]


def choose(numbers: Numbers, paired: Mapping[str, Paired], floors: Floors) -> list[Choice]:
    """All rows, in a fixed order."""
    tested = partial(_tested, paired=paired, floors=floors)
    return [
        tested("name drawings in a style that training never showed", UNSEEN),
        tested("tell who stands where in a scene", SWAPPED),
        tested("tell which of two similar names fits", PAIRS),
        tested("find the picture of a text", FIND),
        tested("learn classes from a few labelled pictures", PROBE),
        _calibrated(numbers),
        _cheapest(numbers),
    ]


def _tested(need: str, name: str, *, paired: Mapping[str, Paired], floors: Floors) -> Choice:
    """The best on average, and from whom the paired test tells it apart."""
    if name not in paired:
        return Choice(need=need, chosen=None)
    found = paired[name]

    def said(recipe: str) -> str:
        return f"{name} {found.means[recipe]:.1f} %"

    chance = floors.chance.get(name)
    if chance is not None and found.means[found.best] <= chance:
        said_none = f"no recipe is above chance, {chance:.1f} %"
        return Choice(need=need, chosen="none", number=said(found.best), verdict=said_none)
    others = sorted(found.tests, key=lambda recipe: -found.means[recipe])
    runner_up = f"{others[0]}: {said(others[0])}" if others else ""
    return Choice(
        need=need,
        chosen=found.best,
        number=said(found.best),
        runner_up=runner_up,
        verdict=_verdict(found) + _beside_pixels(found, floors.pixels.get(name)),
    )


def _beside_pixels(found: Paired, pixels: float | None) -> str:
    if pixels is None or found.means[found.best] > pixels:
        return ""
    return f"; pixels alone get {pixels:.1f} %"


def _verdict(found: Paired) -> str:
    if not found.tests:
        return "the only one that was asked"
    if found.not_told_apart:
        return f"not told apart from {', '.join(found.not_told_apart)}"
    largest = max(t.adjusted_p for t in found.tests.values() if t.adjusted_p is not None)
    return f"told apart from all others (largest adjusted p {largest:.2g} < {SIGNIFICANT:g})"


def _calibrated(numbers: Numbers) -> Choice:
    """The least error of posteriors as they come; those without nats have none.

    Of recipes that are nearly as right as the best of them: a model that knows nothing and says so
    errs the least.
    """
    need = f"a posterior to believe as it comes, within {WITHIN:g} points of the best that has one"
    known = [name for name in _ordered(numbers, _ERROR) if _DRAWINGS in numbers[name]]
    best = max((numbers[name][_DRAWINGS].mean for name in known), default=0.0)
    order = [name for name in known if numbers[name][_DRAWINGS].mean >= best - WITHIN]

    def said(recipe: str) -> str:
        right = numbers[recipe][_DRAWINGS].mean
        return f"calibration error {numbers[recipe][_ERROR].mean:.3f}, {right:.1f} % right"

    if not order:
        return Choice(need=need, chosen=None)
    first, others = numbers[order[0]][_ERROR], order[1:]
    touching = [name for name in others if numbers[name][_ERROR].low <= first.high]
    verdict = "no paired test; the ranges of seeds are apart"
    if len(first.by_seed) < 2:
        verdict = "no paired test, and a single seed has no range"
    elif touching:
        verdict = f"no paired test; the ranges of seeds meet those of {', '.join(touching)}"
    return Choice(
        need=need,
        chosen=order[0],
        number=said(order[0]),
        runner_up=f"{others[0]}: {said(others[0])}" if others else "",
        verdict=verdict if others else "the only one that was asked",
    )


def _cheapest(numbers: Numbers) -> Choice:
    """The fewest operations among those nearly as right as the best."""
    need = f"the cheapest decision within {WITHIN:g} points of the best on the {UNSEEN}"
    by_right = _ordered(numbers, _DRAWINGS)
    if not by_right:
        return Choice(need=need, chosen=None)
    top = max(numbers[name][_DRAWINGS].mean for name in by_right)
    best = [name for name in by_right if numbers[name][_DRAWINGS].mean == top]
    near = [
        name
        for name in _ordered(numbers, ("decision", _FLOPS))
        if name in by_right and numbers[name][_DRAWINGS].mean >= top - WITHIN
    ]
    if not near:
        return Choice(need=need, chosen=None)

    def said(recipe: str) -> str:
        return f"{_gflops(numbers[recipe])}, {numbers[recipe][_DRAWINGS].mean:.1f} % right"

    rightest = "none is right more often"
    if near[0] not in best:
        rightest = f"the best is {' and '.join(best)} with {top:.1f} %"
    return Choice(
        need=need,
        chosen=near[0],
        number=said(near[0]),
        runner_up=f"{near[1]}: {said(near[1])}" if len(near) > 1 else "none is as near",
        verdict=f"operations are counted; {rightest}",
    )


def _ordered(numbers: Numbers, key: Key) -> list[str]:
    """Recipes that have this number, the least first."""
    known = [name for name, found in numbers.items() if key in found]
    return sorted(known, key=lambda name: numbers[name][key].mean)


def _gflops(found: Mapping[Key, OverSeeds]) -> str:
    flops = found.get(("decision", _FLOPS))
    return "unknown cost" if flops is None else f"{flops.mean / 1e9:,.2f} GFLOPs"


def abilities(kind: str) -> dict[str, bool]:
    """What a family can do, from the scores that its models give."""
    own: Sequence[str] = scoring.METHODS[kind]
    left_to_right = "text_given_image" in own
    return {
        "draw a picture": "image_given_text" in own or "elbo" in own,
        "give log p(image | text) in nats": "image_given_text" in own,
        "bound log p(image | text) in nats": "image_given_text" in own or "elbo" in own,
        "give log p(text | image) in nats": left_to_right,
        "write text": left_to_right,
        "embed pictures and texts for an index": "cosine" in own,
        "search an index of embeddings as it stands": METHODS[kind].text_to_image
        in ("cosine", "clipscore", "logit"),
    }

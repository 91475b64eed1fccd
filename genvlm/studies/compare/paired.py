"""Paired tests of the recipes of a comparison: each against the best one."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from genvlm.evaluation.statistics import Undefined, holm, mcnemar_exact
from genvlm.studies.compare.asked import UNSEEN
from genvlm.studies.compare.questions import SCENES
from genvlm.studies.compare.summary import WHOLE, Record, first_judged, percent
from genvlm.studies.evaluations import PAIRS

SIGNIFICANT = 0.05


class Answers(NamedTuple):
    """What one model gets right."""

    right: Mapping[str, bool]
    groups: Mapping[str, str]
    """Items that are not independent, by the same keys."""


class AgainstBest(NamedTuple):
    """A recipe against the best one on the same items and seeds."""

    difference: float | None
    """Best minus this one; None where the two share no seed."""
    num_seeds: int
    best_only: int
    """Items, counted in each seed, that only the best gets right."""
    this_only: int
    p: float | None
    """Exact, whole groups exchanged with all their seeds; None where the two never disagree."""
    adjusted_p: float | None
    """Holm, over the recipes."""

    @property
    def told_apart(self) -> bool:
        """Whether the difference is more than chance."""
        return self.adjusted_p is not None and self.adjusted_p < SIGNIFICANT


class Paired(NamedTuple):
    """All recipes against the best."""

    best: str
    means: dict[str, float]
    tests: dict[str, AgainstBest]

    @property
    def not_told_apart(self) -> list[str]:
        """Recipes that may be as good as the best."""
        return [name for name, test in self.tests.items() if not test.told_apart]


def _unseen(record: Record) -> Answers | None:
    drawings = record.get("drawings")
    if drawings is None:
        return None
    return Answers(drawings["right"][UNSEEN], drawings["groups"][UNSEEN])


def _judged(benchmark: str, tag: str, metric: str) -> Callable[[Record], Answers | None]:
    def answers(record: Record) -> Answers | None:
        judged = first_judged(record, benchmark)
        if judged is None:
            return None
        ids = [i for i, tags in judged["tags"].items() if tag in (WHOLE, *tags)]
        right = {i: judged["earned"][metric][i] == 1 for i in ids}
        return Answers(right, {i: judged["groups"][i] for i in ids})

    return answers


def _found_first(record: Record) -> Answers | None:
    ranked = record.get("retrieval", {}).get("text_to_image")
    if ranked is None:
        return None
    return Answers({i: r == 1 for i, r in ranked["ranks"].items()}, ranked["groups"])


def _probed(record: Record) -> Answers | None:
    """Every number of shots counts alike; all of an item are one group."""
    shots = record.get("probes", {}).get("shots", {})
    right = {
        f"{i} {number}": ok for number, probe in shots.items() for i, ok in probe["right"].items()
    }
    groups = {f"{i} {number}": i for number, probe in shots.items() for i in probe["right"]}
    return Answers(right, groups) if right else None


SWAPPED, FIND, PROBE = "swapped scenes", "a text's picture at rank 1", "probes"
COMPARED: Mapping[str, Callable[[Record], Answers | None]] = {
    UNSEEN: _unseen,
    SWAPPED: _judged(SCENES, "swapped", "group"),
    PAIRS: _judged(PAIRS, WHOLE, "accuracy"),
    FIND: _found_first,
    PROBE: _probed,
}
"""What recipes are tested on."""


def paired_tests(name: str, records: Mapping[str, Mapping[int, Record]]) -> Paired | None:
    """Every recipe against the best one; None where nobody was asked.

    Seeds of one item move together: the exchange of two recipes is of whole groups of items.

    Raises:
        EvaluationError: two models were not asked the same items.
    """
    answers: dict[str, dict[int, Answers]] = {}
    for recipe, by_seed in records.items():
        given = {seed: COMPARED[name](record) for seed, record in by_seed.items()}
        known = {seed: found for seed, found in given.items() if found is not None and found.right}
        if known:
            answers[recipe] = known
    if not answers:
        return None
    means = {
        recipe: float(np.mean([percent(found.right.values()) for found in by_seed.values()]))
        for recipe, by_seed in answers.items()
    }
    best = max(means, key=lambda recipe: means[recipe])
    tests = {
        recipe: _test(answers[best], by_seed)
        for recipe, by_seed in answers.items()
        if recipe != best
    }
    adjusted = holm({recipe: t.p for recipe, t in tests.items() if t.p is not None})
    tests = {r: t._replace(adjusted_p=adjusted.get(r)) for r, t in tests.items()}
    return Paired(best, means, tests)


def _test(best: Mapping[int, Answers], this: Mapping[int, Answers]) -> AgainstBest:
    seeds = [seed for seed in best if seed in this]
    if not seeds:
        return AgainstBest(None, 0, 0, 0, None, None)
    first, second = (_joined(answers, seeds) for answers in (best, this))
    compared = mcnemar_exact(first.right, second.right, first.groups)
    difference = 100 * float(
        np.mean(list(first.right.values())) - np.mean(list(second.right.values()))
    )
    if isinstance(compared, Undefined):
        return AgainstBest(difference, len(seeds), 0, 0, None, None)
    only = compared.first_only, compared.second_only
    return AgainstBest(difference, len(seeds), *only, compared.p_value, None)


def _joined(answers: Mapping[int, Answers], seeds: list[int]) -> Answers:
    """Of several seeds; groups are of items, whatever the seed."""
    right, groups = dict[str, bool](), dict[str, str]()
    for seed in seeds:
        found = answers[seed]
        right |= {f"{seed} {i}": ok for i, ok in found.right.items()}
        groups |= {f"{seed} {i}": found.groups[i] for i in found.right}
    return Answers(right, groups)

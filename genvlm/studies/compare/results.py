"""All that a page of a comparison says, of as many cells as are done, and as plain JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from genvlm.config.compare import CompareConfig
from genvlm.evaluation.control_names import RANDOM
from genvlm.studies.compare.asked import UNSEEN
from genvlm.studies.compare.cells import Cell, plan_cells
from genvlm.studies.compare.choices import Choice, Floors, abilities, choose
from genvlm.studies.compare.paired import COMPARED, PROBE, SWAPPED, Paired, paired_tests
from genvlm.studies.compare.questions import SCENES, sections
from genvlm.studies.compare.summary import (
    WHOLE,
    Gain,
    Key,
    OverSeeds,
    Record,
    first_method,
    gains,
    main_records,
    over_seeds,
    percent,
)
from genvlm.studies.evaluations import NEIGHBOUR, PAIRS

SCHEMA = 1
PER_ITEM = ("right", "groups", "tags", "earned", "halves", "ranks", "captions")
"""Parts of a record with an entry an item."""
Baselines: TypeAlias = Mapping[str, Any]
"""Of what needs no model: {"drawings": {"right": {set: {id: bool}}, "chance": {set: percent}},
"probes": {"shots": ...}}, each perhaps absent."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Of all recipes that have a record, in the order of the configuration."""

    kinds: Mapping[str, str]
    numbers: Mapping[str, Mapping[Key, OverSeeds]]
    baselines: Mapping[Key, float]
    firsts: Mapping[str, Record]
    """One seed of each recipe: the one that most was asked of."""
    gains: Mapping[str, Mapping[Key, Gain]]
    """Of that seed."""
    paired: Mapping[str, Paired]
    choices: Sequence[Choice]
    missing: Sequence[str]
    """Cells without a record."""
    unfinished: Mapping[str, Sequence[str]]
    """Of cells with one, what they were not asked yet."""

    def reference(self, benchmark: str, tag: str, metric: str, who: str) -> float | None:
        """What a control that is the same for all recipes gets, where one was run."""
        return _reference(self.numbers, self.firsts, benchmark, tag, metric, who)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries; the parts of a key stand with slashes between them."""
        return {
            "numbers": {
                recipe: {_joined(key): found.to_json() for key, found in numbers.items()}
                for recipe, numbers in self.numbers.items()
            },
            "baselines": {_joined(key): value for key, value in self.baselines.items()},
            "gains": {
                recipe: {_joined(key): gain._asdict() for key, gain in by_key.items()}
                for recipe, by_key in self.gains.items()
            },
            "paired": {
                name: {
                    "best": found.best,
                    "means": found.means,
                    "tests": {recipe: test._asdict() for recipe, test in found.tests.items()},
                }
                for name, found in self.paired.items()
            },
            "choices": [asdict(choice) for choice in self.choices],
            "abilities": {recipe: abilities(kind) for recipe, kind in self.kinds.items()},
            "missing": list(self.missing),
            "unfinished": {name: list(of) for name, of in self.unfinished.items()},
        }


def compare_records(
    config: CompareConfig, records: Mapping[Cell, Record], baselines: Baselines | None = None
) -> Results:
    """Everything from the records alone.

    Raises:
        EvaluationError: two models were not asked the same items.
    """
    found = main_records(records)
    main = {recipe: found[recipe] for recipe in config.recipes if recipe in found}
    numbers = {recipe: over_seeds(by_seed) for recipe, by_seed in main.items()}
    tested = {name: paired_tests(name, main) for name in COMPARED}
    paired = {name: found for name, found in tested.items() if found is not None}
    firsts = {
        recipe: by_seed.get(config.seeds[0], next(iter(by_seed.values())))
        for recipe, by_seed in main.items()
    }
    unasked = {
        cell.name: [section for section in sections(cell, config) if section not in record]
        for cell, record in records.items()
    }
    known = _baseline_numbers(baselines or {})
    floors = _floors(numbers, firsts, known)
    return Results(
        kinds={recipe: record["cell"]["kind"] for recipe, record in firsts.items()},
        numbers=numbers,
        baselines=known,
        firsts=firsts,
        gains={recipe: gains(record) for recipe, record in firsts.items()},
        paired=paired,
        choices=choose(numbers, paired, floors),
        missing=[cell.name for cell in plan_cells(config) if cell not in records],
        unfinished={name: left for name, left in unasked.items() if left},
    )


def split_items(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record without its entries of items, and those alone."""
    lean, items = dict[str, Any](), dict[str, Any]()
    for name, part in record.items():
        if name in PER_ITEM:
            items[name] = part
        elif isinstance(part, Mapping):
            lean[name], inner = split_items(part)
            items |= {name: inner} if inner else {}
        else:
            lean[name] = part
    return lean, items


def _baseline_numbers(baselines: Baselines) -> dict[Key, float]:
    found: dict[Key, float | None] = {
        ("drawings", name): percent(right.values())
        for name, right in baselines.get("drawings", {}).get("right", {}).items()
    }
    for name, chance in baselines.get("drawings", {}).get("chance", {}).items():
        found["chance", name] = chance
    for shots, probe in baselines.get("probes", {}).get("shots", {}).items():
        found["probes", shots] = percent(probe["right"].values())
    return {key: value for key, value in found.items() if value is not None}


def _floors(
    numbers: Mapping[str, Mapping[Key, OverSeeds]],
    firsts: Mapping[str, Record],
    known: Mapping[Key, float],
) -> Floors:
    """What pixels alone, and chance, get in each test that they were put to."""
    shots = [value for key, value in known.items() if key[0] == "probes"]
    pixels = {
        UNSEEN: known.get(("drawings", UNSEEN)),
        PROBE: sum(shots) / len(shots) if shots else None,
    }
    chance = {UNSEEN: known.get(("chance", UNSEEN))}
    asked = {SWAPPED: (SCENES, "swapped", "group"), PAIRS: (PAIRS, WHOLE, "accuracy")}
    for name, (benchmark, tag, metric) in asked.items():
        pixels[name] = _reference(numbers, firsts, benchmark, tag, metric, NEIGHBOUR)
        chance[name] = _reference(numbers, firsts, benchmark, tag, metric, RANDOM)
    return Floors(_known(pixels), _known(chance))


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _reference(
    numbers: Mapping[str, Mapping[Key, OverSeeds]],
    firsts: Mapping[str, Record],
    benchmark: str,
    tag: str,
    metric: str,
    who: str,
) -> float | None:
    """What a control that is the same for all recipes gets, by the first record that has it."""
    for recipe, record in firsts.items():
        key = (benchmark, first_method(record), tag, metric, who)
        if key in numbers[recipe]:
            return numbers[recipe][key].mean
    return None


def _joined(key: Key) -> str:
    return " / ".join(key)

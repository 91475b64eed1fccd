"""Benchmark cards: what a benchmark measures, what chance gives, and what is known to be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from genvlm.config.assets import asset_path
from genvlm.config.schema import load_config, strict
from genvlm.errors import ConfigError
from genvlm.evaluation.decisions import RuleName, build_rule
from genvlm.evaluation.measures import Rule

MACRO = "macro "


@strict
@dataclass(frozen=True, kw_only=True)
class Card:
    """The YAML file of a benchmark, `eval/benchmarks/NAME.yaml`."""

    name: str
    version: str
    """Raised whenever a change of items, rule or order can change a score."""
    rule: RuleName
    orders: list[str] = field(default_factory=list)
    """Presentations in which options are shown (rule options)."""
    chance: dict[str, Annotated[float, Field(ge=0, le=100)]]
    """Percent by metric, of independent random scores or answers; only where that is defined."""
    chance_of_texts: str = ""
    """The metric whose chance is that of one text among all, where each run has its own number."""
    macro_over: str = ""
    """Tags with this beginning are the categories that a metric named "macro ..." averages over."""
    macro_min_items: int = 1
    """Smaller categories do not enter the average; they are reported."""
    confounders: list[str] = field(default_factory=list)
    """Controls that must be no better and no worse than chance in every category; where the 95 %
    interval of one does not hold the chance, the category is flagged as confounded."""
    files: dict[str, str] = field(default_factory=dict)
    """sha256 by path in the data folder, of the published files (uncompressed)."""
    fetch: str = ""
    """What to fetch, and from where, to run a model on it."""
    licence: str
    artefacts: list[str]
    """What can be scored without understanding, or is ambiguous, as far as known."""
    description: str
    metrics: dict[str, str]
    """What each metric means, in the order of display; the last one is the headline."""

    def __post_init__(self) -> None:
        known = self.decision.metrics
        for name in self.metrics:
            if name.removeprefix(MACRO) not in known:
                raise ConfigError(
                    f"card {self.name!r}: no metric {name!r} of the rule {self.rule!r}: "
                    f"choose among {', '.join(known)}"
                )
        for name in (*self.chance, *filter(None, [self.chance_of_texts])):
            if name not in self.metrics:
                raise ConfigError(f"card {self.name!r}: chance of {name!r}, which is no metric")
        if bool(self.macro_over) != any(name.startswith(MACRO) for name in self.metrics):
            raise ConfigError(
                f"card {self.name!r}: a metric named 'macro ...' needs macro_over, and the reverse"
            )

    @property
    def decision(self) -> Rule:
        """The rule itself."""
        return build_rule(self.rule, self.orders)

    @property
    def headline(self) -> str:
        """The metric that stands for the benchmark."""
        return list(self.metrics)[-1]


def with_chance(card: Card, nums_of_texts: Sequence[int]) -> Card:
    """The card of items with so many texts each, `chance_of_texts` made a number."""
    if not card.chance_of_texts or not nums_of_texts:
        return card
    share = sum(1 / num for num in nums_of_texts) / len(nums_of_texts)
    return replace(card, chance={**card.chance, card.chance_of_texts: 100 * share})


def load_card(name: str) -> Card:
    """The card shipped for this benchmark."""
    return load_config(Card, asset_path(f"eval/benchmarks/{name}.yaml"))


def card_names() -> list[str]:
    """Of every card shipped."""
    return sorted(path.stem for path in asset_path("eval/benchmarks").glob("*.yaml"))

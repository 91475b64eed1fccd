"""Benchmark cards: what a benchmark measures, what chance gives, and what is known to be wrong."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from genvlm.config.assets import asset_path
from genvlm.config.schema import load_config, strict
from genvlm.errors import ConfigError
from genvlm.evaluation.rules import METRICS, Rule


@strict
@dataclass(frozen=True, kw_only=True)
class Card:
    """The YAML file of a benchmark, `eval/benchmarks/NAME.yaml`."""

    name: str
    version: str
    """Raised whenever a change of items, rule or order can change a score."""
    rule: Rule
    chance: dict[str, Annotated[float, Field(ge=0, le=100)]]
    """Percent by metric, of independent random scores."""
    licence: str
    artefacts: list[str]
    """What can be scored without understanding, or is ambiguous, as far as known."""
    description: str
    metrics: dict[str, str]
    """What each metric means."""

    def __post_init__(self) -> None:
        for field in ("chance", "metrics"):
            if set(getattr(self, field)) != set(METRICS[self.rule]):
                raise ConfigError(
                    f"card {self.name!r}: {field} must name exactly the metrics of the rule "
                    f"{self.rule!r}: {', '.join(METRICS[self.rule])}"
                )


def load_card(name: str) -> Card:
    """The card shipped for this benchmark."""
    return load_config(Card, asset_path(f"eval/benchmarks/{name}.yaml"))

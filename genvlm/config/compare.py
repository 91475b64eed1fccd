"""Configuration of a comparison: recipes of several families, one budget, what is asked of each."""

import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.schema import Positive, PositiveFloat, Seed, strict
from genvlm.errors import ConfigError

Share = Annotated[float, Field(gt=0, lt=1)]
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@strict
@dataclass(frozen=True, kw_only=True)
class CompareEvaluationConfig:
    """How many things each model is asked."""

    num_training: Positive = 100
    """Moved drawings of the training vendors, half of each."""
    num_unseen: Positive = 100
    """Drawings of the unseen vendor."""
    num_held_out: Positive = 100
    """Drawings of families that no model saw, asked for their group."""
    num_scenes: Positive = 200
    """Items of each of the two sets of scenes."""
    num_pairs: Positive = 400
    """Items of emoji-pairs."""
    gallery: Positive = 100
    """Held-out scenes among which retrieval searches."""
    shots: tuple[Positive, ...] = (1, 2, 4, 8)
    """Drawings of each class that a linear probe learns from."""
    num_samples: Positive = 8
    """Of a diffusion model: levels and noises of each score."""


@strict
@dataclass(frozen=True, kw_only=True)
class CurvesConfig:
    """Further cells of the first seed."""

    data_shares: tuple[Share, ...] = ()
    data_recipes: tuple[str, ...] = ()
    """Recipes that are trained on these shares of the documents, too."""
    batch_sizes: tuple[Positive, ...] = ()
    batch_recipes: tuple[str, ...] = ()
    """Recipes that are trained with these batches, too, on as many FLOPs."""
    frequency_recipes: tuple[str, ...] = ()
    """Recipes whose models are asked for concepts that captions name rarely and often."""


@strict
@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """A whole comparison: `genvlm compare FILE --out DIR`."""

    kind: Literal["compare"] = "compare"
    recipes: Annotated[dict[str, str], Field(min_length=1)]
    """Name of each row to its training configuration; their data sources must be the same."""
    training_flops: PositiveFloat
    """Of each model, forward and backward; it decides the number of steps."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    data_share: Share | None = None
    """Of the documents of every recipe; None: all."""
    language_model: str | None = None
    """Recipe of what projectors write with; trained once, in front, on FLOPs of its own."""
    image_model: str | None = None
    """The same of what projectors see with, whose image_encoder is of kind genvlm."""
    steps_in_front: Positive | None = None
    """Of both; None: the recipes' own."""
    evaluation: CompareEvaluationConfig = field(default_factory=CompareEvaluationConfig)
    curves: CurvesConfig = field(default_factory=CurvesConfig)

    def __post_init__(self) -> None:
        for name in self.recipes:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"recipes: {name!r} names a folder: use small letters, digits and underscores"
                )
        curves = self.curves
        asked = (*curves.data_recipes, *curves.batch_recipes, *curves.frequency_recipes)
        unknown = [name for name in asked if name not in self.recipes]
        if unknown:
            raise ConfigError(
                f"curves name the recipe {unknown[0]!r}, which is none of {', '.join(self.recipes)}"
            )
        if self.data_share is not None and curves.data_shares:
            raise ConfigError(
                "data_share and curves.data_shares are shares of each other: give one of them"
            )
        lists = {"seeds": self.seeds, **{f"curves.{k}": v for k, v in vars(curves).items()}}
        for name, values in lists.items():
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} {list(values)} holds one twice: list each once")
        for first, second in (("data_shares", "data_recipes"), ("batch_sizes", "batch_recipes")):
            if bool(getattr(curves, first)) != bool(getattr(curves, second)):
                raise ConfigError(f"curves.{first} and curves.{second} go together: give both")


def quick(config: CompareConfig) -> CompareConfig:
    """One seed, an eighth of the data, a twentieth of the compute, few questions, no curves."""
    asked = CompareEvaluationConfig(
        num_training=20, num_unseen=20, num_held_out=20, num_scenes=20, num_pairs=40, gallery=20,
        shots=(1, 4), num_samples=2,
    )  # fmt: skip
    return replace(
        config,
        training_flops=config.training_flops / 20,
        seeds=config.seeds[:1],
        data_share=0.125,
        steps_in_front=30,
        evaluation=asked,
        curves=CurvesConfig(),
    )

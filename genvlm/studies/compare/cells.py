"""The cells of a comparison: a recipe, a seed, and what is varied. Each is one ordinary run."""

from dataclasses import dataclass, replace
from typing import Any

from genvlm.config.assets import resolve_path
from genvlm.config.compare import CompareConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.data import DrawnSource, EmojiSource, ScenesSource
from genvlm.config.kinds import ModelTrainConfig, config_class
from genvlm.config.projector import OwnLanguageConfig, ProjectorTrainConfig
from genvlm.config.schema import load_config
from genvlm.errors import ConfigError

LANGUAGE_FOLDER = "language"
"""Below the folder of a comparison: the run of what projectors write with."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model of a comparison."""

    recipe: str
    seed: int
    data_share: float | None = None
    """Of the documents; None: all."""
    batch_size: int | None = None
    """None: the recipe's own."""

    @property
    def name(self) -> str:
        """Names its folder."""
        parts = [self.recipe, f"seed-{self.seed}"]
        if self.data_share is not None:
            parts.append(f"data-{self.data_share:g}")
        if self.batch_size is not None:
            parts.append(f"batch-{self.batch_size}")
        return "-".join(parts)

    @property
    def is_main(self) -> bool:
        """Whether it is of the table rather than of a curve."""
        return self.data_share is None and self.batch_size is None


def plan_cells(config: CompareConfig) -> list[Cell]:
    """All of them, a seed of every recipe before the next seed; curves last."""
    cells = [Cell(recipe=name, seed=seed) for seed in config.seeds for name in config.recipes]
    first, curves = config.seeds[0], config.curves
    cells += [
        Cell(recipe=name, seed=first, data_share=share)
        for name in curves.data_recipes
        for share in curves.data_shares
    ]
    cells += [
        Cell(recipe=name, seed=first, batch_size=size)
        for name in curves.batch_recipes
        for size in curves.batch_sizes
    ]
    return cells


def choose_cells(cells: list[Cell], only: list[str]) -> list[Cell]:
    """Those whose name, or recipe, is given; all for an empty list.

    Raises:
        ConfigError: nothing is called so.
    """
    known = {c.name for c in cells} | {c.recipe for c in cells}
    for name in only:
        if name not in known:
            raise ConfigError(f"no cell {name!r}: choose one of {', '.join(sorted(known))}")
    return [c for c in cells if not only or c.name in only or c.recipe in only]


def load_recipes(config: CompareConfig, language: str) -> dict[str, ModelTrainConfig]:
    """The training configuration of every recipe.

    Args:
        language: model folder that projectors shall write with, where the comparison trains one.

    Raises:
        ConfigError: a recipe that trains no model or has mixture tokens, or whose sources are not
            those of the first.
    """
    recipes = {name: _load(path) for name, path in config.recipes.items()}
    first = next(iter(recipes))
    for name, recipe in recipes.items():
        if recipe.data.sources != recipes[first].data.sources:
            raise ConfigError(
                f"{config.recipes[name]} learns from other data.sources than "
                f"{config.recipes[first]}: a comparison is of the same documents"
            )
    for name, recipe in recipes.items():
        if config.data_share is not None:
            recipes[name] = recipe = with_share(recipe, config.data_share)
        if isinstance(recipe, ProjectorTrainConfig) and config.language_model is not None:
            written = OwnLanguageConfig(path=language)
            recipes[name] = replace(recipe, model=replace(recipe.model, language_model=written))
    return recipes


def _load(path: str) -> ModelTrainConfig:
    file = resolve_path(path)
    kind = config_class(file)
    if not issubclass(kind, ModelTrainConfig):
        raise ConfigError(f"{path} trains no model: name recipes such as configs/compare/clip.yaml")
    recipe = load_config(kind, file)
    assert isinstance(recipe, ModelTrainConfig)
    if isinstance(recipe, ContrastiveTrainConfig) and recipe.model.mixture_tokens is not None:
        raise ConfigError(
            f"{path} has mixture_tokens, and what a comparison says of contrastive models is of "
            "those with embeddings for an index: leave it out"
        )
    return recipe


def cell_config(cell: Cell, recipe: ModelTrainConfig) -> Any:
    """The recipe with the cell's seed, share of the data and batch; steps are the recipe's still.

    Raises:
        ConfigError: a source that has no such share, or the recipe has that batch already.
    """
    changed: dict[str, Any] = {"seed": cell.seed}
    if cell.data_share is not None:
        changed["data"] = with_share(recipe, cell.data_share).data
    if cell.batch_size is not None:
        if cell.batch_size == recipe.global_batch_size:
            raise ConfigError(
                f"curves.batch_sizes holds {cell.batch_size}, which {cell.recipe} has already: "
                "leave it out"
            )
        changed |= {"global_batch_size": cell.batch_size, "micro_batch_size": cell.batch_size}
    return replace(recipe, **changed)


def with_share(recipe: ModelTrainConfig, share: float) -> ModelTrainConfig:
    """The recipe on a share of each of its sources. Raises ConfigError as `share_of`."""
    sources = tuple(share_of(source, share) for source in recipe.data.sources)
    return replace(recipe, data=replace(recipe.data, sources=sources))  # type: ignore[arg-type]


def share_of(source: object, share: float) -> DrawnSource:
    """A part of what a source draws: fewer scenes, or fewer copies of every drawing.

    Raises:
        ConfigError: another kind of source, or copies that the share does not divide.
    """
    if isinstance(source, ScenesSource):
        return replace(source, num=max(1, round(source.num * share)))
    if isinstance(source, EmojiSource):
        versions = (1 + source.augmented_copies) * share
        if versions < 1 or versions != int(versions):
            raise ConfigError(
                f"a share of {share:g} of {1 + source.augmented_copies} versions of a drawing is "
                "no whole number: choose augmented_copies and data_shares that fit"
            )
        return replace(source, augmented_copies=int(versions) - 1)
    kind = getattr(source, "kind", type(source).__name__)
    raise ConfigError(
        f"a source of kind {kind} has no shares, which --quick, data_share and curves.data_shares "
        "take: they are of scenes and emoji"
    )

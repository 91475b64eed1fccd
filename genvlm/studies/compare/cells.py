"""The cells of a comparison: a recipe, a seed, and what is varied. Each is one ordinary run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genvlm.config.assets import resolve_path
from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.compare import CompareConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.data import DrawnSource, EmojiSource, ScenesSource
from genvlm.config.image_encoder import OwnPatchesConfig, SmallImageEncoderConfig
from genvlm.config.kinds import ModelTrainConfig, config_class
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import OwnLanguageConfig, ProjectorTrainConfig
from genvlm.config.schema import load_config
from genvlm.config.training import TrainConfig
from genvlm.errors import ConfigError
from genvlm.training.run_folder import MODEL_FOLDER

LANGUAGE_MODEL, IMAGE_ENCODER = "language_model", "image_encoder"
"""Parts that a projector joins, and below the folder of a comparison the runs that train them."""


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


def load_recipes(config: CompareConfig, out: Path) -> dict[str, ModelTrainConfig]:
    """The training configuration of every recipe.

    Args:
        out: folder of the comparison, where what projectors write and see with will lie.

    Raises:
        ConfigError: a recipe that trains no model or has mixture tokens, or whose sources are not
            those of the first; an image_model that trains no encoder for projectors, or whose
            projector is to learn from shares of the documents.
    """
    files = list(config.recipes.values())
    if config.image_model is not None:
        files.append(config.image_model)
    loaded = [_load(file) for file in files]
    if config.image_model is not None:
        _check_image_model(config.image_model, loaded[-1])
    for file, recipe in zip(files, loaded, strict=True):
        if recipe.data.sources != loaded[0].data.sources:
            raise ConfigError(
                f"{file} learns from other data.sources than {files[0]}: a comparison is of the "
                "same documents"
            )
    named = zip(config.recipes, loaded, strict=False)  # what projectors see with is no row
    recipes = {name: _in_comparison(recipe, config, out) for name, recipe in named}
    for name in config.curves.data_recipes:
        if IMAGE_ENCODER in in_front(recipes[name], config):
            raise ConfigError(
                f"curves.data_recipes holds {name}, which sees with image_model, and that learns "
                "from all documents: leave it out"
            )
    return recipes


def _check_image_model(path: str, recipe: ModelTrainConfig) -> None:
    lending = ContrastiveTrainConfig | CoCaTrainConfig | MaskedTrainConfig
    if not (
        isinstance(recipe, lending)
        and isinstance(recipe.model.image_encoder, SmallImageEncoderConfig)
    ):
        raise ConfigError(
            f"image_model {path} trains no image encoder for a projector: name a recipe of kind "
            "contrastive, coca or masked whose image_encoder is small"
        )


def _in_comparison(recipe: ModelTrainConfig, config: CompareConfig, out: Path) -> ModelTrainConfig:
    """On the comparison's share of the documents, and between the models that it trains."""
    if config.data_share is not None:
        recipe = with_share(recipe, config.data_share)
    if isinstance(recipe, ProjectorTrainConfig):
        paths = {
            part: str(out.resolve() / part / MODEL_FOLDER) for part in in_front(recipe, config)
        }
        model = recipe.model
        if LANGUAGE_MODEL in paths:
            written = OwnLanguageConfig(path=paths[LANGUAGE_MODEL])
            model = replace(model, language_model=written)
        if IMAGE_ENCODER in paths:
            model = replace(model, image_encoder=OwnPatchesConfig(path=paths[IMAGE_ENCODER]))
        recipe = replace(recipe, model=model)
    return recipe


def in_front(recipe: ModelTrainConfig, config: CompareConfig) -> dict[str, ModelTrainConfig]:
    """The runs of what a projector joins, as far as the comparison trains it."""
    runs = dict[str, ModelTrainConfig]()
    if not isinstance(recipe, ProjectorTrainConfig):
        return runs
    if config.language_model is not None:
        runs[LANGUAGE_MODEL] = load_config(TrainConfig, resolve_path(config.language_model))
    if config.image_model is not None and isinstance(recipe.model.image_encoder, OwnPatchesConfig):
        seeing = _load(config.image_model)
        if config.data_share is not None:
            seeing = with_share(seeing, config.data_share)
        runs[IMAGE_ENCODER] = seeing
    if config.steps_in_front is not None:
        runs = {part: with_steps(run, config.steps_in_front) for part, run in runs.items()}
    return runs


def with_steps(run: ModelTrainConfig, num_steps: int) -> ModelTrainConfig:
    """So many steps, of which no more than a quarter warms up."""
    warmup = min(run.optimizer.warmup_steps, num_steps // 4)
    optimizer = replace(run.optimizer, warmup_steps=warmup)
    return replace(run, num_steps=num_steps, optimizer=optimizer)


def check_joined(recipe: ModelTrainConfig, config: CompareConfig) -> None:
    """Raises ConfigError: a projector joins models that are not there, nor trained in front."""
    if not isinstance(recipe, ProjectorTrainConfig):
        return
    trained = in_front(recipe, config)
    for part in (LANGUAGE_MODEL, IMAGE_ENCODER):
        path = getattr(getattr(recipe.model, part), "path", None)
        if part not in trained and path is not None:
            resolve_path(path)


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

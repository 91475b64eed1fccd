"""Any kind of model from its configuration: the one place that knows every family's training."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, assert_never

from torch import nn

from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.training import TrainConfig
from genvlm.training.caption_run import prepare_captions
from genvlm.training.coca import coca_run, train_coca
from genvlm.training.contrastive import contrastive_run, train_contrastive
from genvlm.training.diffusion import prepare_diffusion, train_diffusion
from genvlm.training.loop import prepare_transformer, train
from genvlm.training.masked import masked_run, train_masked
from genvlm.training.projector import prepare_projector, train_projector
from genvlm.training.steps import Progress


class Batches(Protocol):
    """Micro-batches of one process at an optimizer step, of the kind that the objective takes."""

    def batch(self, step: int) -> list[Any]: ...


class PreparedRun(NamedTuple):
    """What a run begins with."""

    source: Batches
    objective: nn.Module
    """Holds the network, as initialised; gives `Losses` of a batch."""


def train_model(
    config: ModelTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a model of any kind; the model folder.

    Args:
        cache: folder for encoded pictures; by default of the run itself.

    Raises:
        GenvlmError: as the training function of its kind.
    """
    match config:
        case TrainConfig():
            return train(config, out, resume=resume, progress=progress, cache=cache)
        case DiffusionTrainConfig():
            return train_diffusion(config, out, resume=resume, progress=progress, cache=cache)
        case ContrastiveTrainConfig():
            return train_contrastive(config, out, resume=resume, progress=progress, cache=cache)
        case CoCaTrainConfig():
            return train_coca(config, out, resume=resume, progress=progress, cache=cache)
        case MaskedTrainConfig():
            return train_masked(config, out, resume=resume, progress=progress, cache=cache)
        case ProjectorTrainConfig():
            return train_projector(config, out, resume=resume, progress=progress, cache=cache)
        case _:
            assert_never(config)


def prepare_model(config: ModelTrainConfig, cache: Path) -> PreparedRun:
    """Everything in front of the first step."""
    run: Any
    match config:
        case TrainConfig():
            run = prepare_transformer(config, cache)
        case DiffusionTrainConfig():
            run = prepare_diffusion(config, cache)
        case ContrastiveTrainConfig():
            run = prepare_captions(config, contrastive_run(config), cache)
        case CoCaTrainConfig():
            run = prepare_captions(config, coca_run(config), cache)
        case MaskedTrainConfig():
            run = prepare_captions(config, masked_run(config), cache)
        case ProjectorTrainConfig():
            run = prepare_projector(config, cache)
        case _:
            assert_never(config)
    return PreparedRun(run.source, run.objective)

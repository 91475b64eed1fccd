"""What a model of a comparison costs beside its training: frozen parts, and one decision."""

import time
from collections.abc import Callable
from typing import NamedTuple, assert_never

import torch

from genvlm.config.assets import resolve_path
from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.data import ShardsSource
from genvlm.config.diffusion import DiffusionTrainConfig, VQLatentsConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.training import TrainConfig
from genvlm.data.sources import count_visuals
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.text_only import build_language
from genvlm.scoring.protocols import Grid, Scorer
from genvlm.studies.flops import counting_flops
from genvlm.tokenization.image import load_image_tokenizer

# Encoded together: of few, what seeks the nearest code is filled up with zeros.
_PICTURES = 64


class FrozenParts(NamedTuple):
    """Of a model: what it takes as given."""

    parameters: int
    tokenizing_flops: float
    """To encode every picture of the data once, in front of training."""
    earlier_flops: float | None
    """Of the training of a language model, None where it is somebody's own; that of the shipped
    image tokenizer is not counted, it is the same for all who use it."""


class DecisionCost(NamedTuple):
    """Of one picture against all labels."""

    flops: float
    seconds: float
    """Of this machine, pictures and texts encoded anew."""


def frozen_parts(config: ModelTrainConfig, language_flops: float | None = None) -> FrozenParts:
    """Count them. A projector's encoder runs at every step and is counted there."""
    match config:
        case TrainConfig():
            return _tokenizer(config, config.tokenizers.image)
        case MaskedTrainConfig():
            return _tokenizer(config, config.model.image_tokenizer)
        case DiffusionTrainConfig():
            latents = config.model.latents
            if isinstance(latents, VQLatentsConfig):
                return _tokenizer(config, latents.path)
            return FrozenParts(0, 0.0, 0.0)
        case ContrastiveTrainConfig() | CoCaTrainConfig():
            return FrozenParts(0, 0.0, 0.0)
        case ProjectorTrainConfig():
            parts = (
                build_image_encoder(config.model.image_encoder).encoder,
                build_language(config.model.language_model).model,
            )
            weights = (p for part in parts for p in part.parameters())
            num = sum(p.numel() for p in weights if not p.requires_grad)
            return FrozenParts(num, 0.0, language_flops)
        case _:
            assert_never(config)


def decision_cost(open_scorer: Callable[[], Scorer], grid: Grid) -> DecisionCost:
    """Score one picture against all labels, by a scorer that remembers nothing each time.

    Once for its operations, once for its time.
    """
    scorer = open_scorer()
    with counting_flops() as counter, torch.no_grad():
        scorer.score([grid])
    scorer = open_scorer()
    began = time.perf_counter()
    scorer.score([grid])
    return DecisionCost(float(counter.get_total_flops()), time.perf_counter() - began)


def _tokenizer(config: ModelTrainConfig, path: str) -> FrozenParts:
    tokenizer = load_image_tokenizer(resolve_path(path))
    network, side = tokenizer.network, tokenizer.config.resolution
    with counting_flops() as counter, torch.no_grad():
        network.encode(torch.zeros(_PICTURES, 3, side, side))
    num_pictures = sum(
        count_visuals(s) for s in config.data.sources if not isinstance(s, ShardsSource)
    )
    flops = float(counter.get_total_flops()) / _PICTURES * num_pictures
    return FrozenParts(sum(p.numel() for p in network.parameters()), flops, 0.0)

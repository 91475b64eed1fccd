"""What a model of a comparison costs beside its training: its pictures, and one decision."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from genvlm.config.assets import resolve_path
from genvlm.config.data import ShardsSource
from genvlm.config.diffusion import DiffusionConfig, DiffusionTrainConfig, VQLatentsConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.training import TrainConfig
from genvlm.data.sources import count_visuals
from genvlm.scoring.protocols import Grid, Scorer
from genvlm.studies.flops import counting_flops
from genvlm.tokenization.image import load_image_tokenizer

# Encoded together: of few, what seeks the nearest code is filled up with zeros.
_PICTURES = 64


class Tokenizing(NamedTuple):
    """Of what encodes the pictures in front of training; its own training is not counted."""

    parameters: int
    flops: float
    """To encode every picture of the data once."""


class DecisionCost(NamedTuple):
    """Of one picture against all labels."""

    flops: float
    seconds: float
    """Of this machine, pictures and texts encoded anew."""


def tokenizing(config: ModelTrainConfig) -> Tokenizing:
    """Count it; nothing for models that read pixels, also by a frozen encoder at every step."""
    match config:
        case TrainConfig():
            path = config.tokenizers.image
        case MaskedTrainConfig():
            path = config.model.image_tokenizer
        case DiffusionTrainConfig(model=DiffusionConfig(latents=VQLatentsConfig() as latents)):
            path = latents.path
        case _:
            return Tokenizing(0, 0.0)
    tokenizer = load_image_tokenizer(resolve_path(path))
    network, side = tokenizer.network, tokenizer.config.resolution
    with counting_flops() as counter, torch.no_grad():
        network.encode(torch.zeros(_PICTURES, 3, side, side))
    num_pictures = sum(
        count_visuals(s) for s in config.data.sources if not isinstance(s, ShardsSource)
    )
    flops = float(counter.get_total_flops()) / _PICTURES * num_pictures
    return Tokenizing(sum(p.numel() for p in network.parameters()), flops)


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

"""Training of a contrastive model."""

from pathlib import Path
from typing import Any

from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.models.auxiliary.contrastive import CONTRASTIVE
from genvlm.models.auxiliary.llip import LLIP
from genvlm.training.caption_run import CaptionRun, train_on_captions
from genvlm.training.objectives.contrastive import ContrastiveObjective
from genvlm.training.steps import Progress


def train_contrastive(
    config: ContrastiveTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a contrastive model. Takes, returns and raises as `train_on_captions`."""
    run = contrastive_run(config)
    return train_on_captions(config, out, run, resume=resume, progress=progress, cache=cache)


def contrastive_run(config: ContrastiveTrainConfig) -> CaptionRun[Any]:
    """What such a run is made of."""
    negatives = ", with swapped captions as negatives" if config.objective.negatives else ""
    text, tokens = config.model.text_encoder.kind, config.model.mixture_tokens
    mixed = "" if tokens is None else f"\n- mixture tokens of a picture: {tokens.num_tokens}"
    return CaptionRun(
        family=CONTRASTIVE if tokens is None else LLIP,
        objective=lambda network: ContrastiveObjective(network, config.objective.chunk_rows),
        negatives=config.objective.negatives,
        about=f"- loss: {config.model.loss}{negatives}\n- text encoder: {text}{mixed}",
        limits="It compares a picture and a text; it knows no probability of either, and draws "
        "nothing.",
    )

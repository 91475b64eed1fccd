"""Training of a contrastive model."""

from pathlib import Path

from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.models.auxiliary.contrastive import CONTRASTIVE, DualEncoder
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


def contrastive_run(config: ContrastiveTrainConfig) -> CaptionRun[DualEncoder]:
    """What such a run is made of."""
    negatives = ", with swapped captions as negatives" if config.objective.negatives else ""
    text = config.model.text_encoder.kind
    return CaptionRun(
        family=CONTRASTIVE,
        objective=lambda network: ContrastiveObjective(network, config.objective.chunk_rows),
        negatives=config.objective.negatives,
        about=f"- loss: {config.model.loss}{negatives}\n- text encoder: {text}",
        limits="It compares a picture and a text; it knows no probability of either, and draws "
        "nothing.",
    )

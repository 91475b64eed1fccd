"""Training of a contrastive captioner."""

from pathlib import Path

from genvlm.config.coca import CoCaTrainConfig
from genvlm.models.auxiliary.coca import COCA, CoCa
from genvlm.training.caption_run import CaptionRun, train_on_captions
from genvlm.training.objectives.coca import CoCaObjective
from genvlm.training.steps import Progress


def train_coca(
    config: CoCaTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a contrastive captioner. Takes, returns and raises as `train_on_captions`."""
    run = coca_run(config)
    return train_on_captions(config, out, run, resume=resume, progress=progress, cache=cache)


def coca_run(config: CoCaTrainConfig) -> CaptionRun[CoCa]:
    """What such a run is made of."""
    weights = config.objective
    return CaptionRun(
        family=COCA,
        objective=lambda network: CoCaObjective(
            network,
            contrastive_weight=weights.contrastive_weight,
            caption_weight=weights.caption_weight,
            chunk_rows=weights.chunk_rows,
        ),
        negatives=False,
        about=f"- loss: {weights.contrastive_weight:g} contrastive + {weights.caption_weight:g} "
        "caption",
        limits="It compares a picture and a text and knows log p(text | picture); it draws no "
        "picture and knows no probability of one.",
    )

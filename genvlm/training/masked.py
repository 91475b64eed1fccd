"""Training of a masked model."""

from pathlib import Path

from genvlm.config.assets import resolve_path
from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.masked import MaskedConfig, MaskedTrainConfig
from genvlm.config.schema import load_config
from genvlm.errors import ConfigError
from genvlm.models.auxiliary.masked import MASKED, MaskedEncoders
from genvlm.tokenization.coarse import merge_codes
from genvlm.tokenization.image import CONFIG_FILE, ImageTokenizer, load_image_tokenizer
from genvlm.training.caption_run import CaptionRun, train_on_captions
from genvlm.training.objectives.masked import MaskedObjective
from genvlm.training.steps import Progress


def train_masked(
    config: MaskedTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a masked model. Takes, returns and raises as `train_on_captions`.

    Raises:
        ConfigError: patches are no cells of the image tokenizer, or it has fewer codes.
    """
    run = masked_run(config)
    return train_on_captions(config, out, run, resume=resume, progress=progress, cache=cache)


def masked_run(config: MaskedTrainConfig) -> CaptionRun[MaskedEncoders]:
    """What such a run is made of. Raises as `train_masked`."""
    _check_cells(config.model)
    weights = config.objective
    return CaptionRun(
        family=MASKED,
        objective=lambda network: MaskedObjective(network, weights),
        negatives=False,
        about=f"- loss: {weights.image_weight:g} masked patches + {weights.text_weight:g} masked "
        f"pieces + {weights.multimodal_weight:g} both together + {weights.contrastive_weight:g} "
        f"contrastive + {weights.matching_weight:g} matching; {weights.image_share:.0%} of the "
        f"patches and {weights.text_share:.0%} of the pieces are masked",
        limits="It compares a picture and a text and guesses what is masked; it knows no "
        "probability of a whole text or picture, and draws nothing.",
        image_tokenizer=lambda: _load_tokenizer(config.model),
    )


def _check_cells(model: MaskedConfig) -> None:
    folder = resolve_path(model.image_tokenizer)
    tokenizer, seen = load_config(VQGANConfig, folder / CONFIG_FILE), model.image_encoder
    cell = tokenizer.downsample_factor
    if (seen.side, seen.patch_size) != (tokenizer.resolution, cell):
        raise ConfigError(
            f"patches of {seen.patch_size} pixels of pictures of {seen.side} are no cells of "
            f"{model.image_tokenizer}: set image_encoder.side to {tokenizer.resolution} and "
            f"image_encoder.patch_size to {cell}"
        )
    if model.codebook_size > tokenizer.codebook_size:
        raise ConfigError(
            f"{model.image_tokenizer} has {tokenizer.codebook_size} codes: set codebook_size to "
            "it, or to fewer, into which they are merged"
        )


def _load_tokenizer(model: MaskedConfig) -> ImageTokenizer:
    tokenizer = load_image_tokenizer(resolve_path(model.image_tokenizer))
    if model.codebook_size < tokenizer.config.codebook_size:
        return merge_codes(tokenizer, model.codebook_size)
    return tokenizer

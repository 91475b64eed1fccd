"""A diffusion model from its configuration and its parts."""

from dataclasses import replace

from genvlm.config.diffusion import (
    DiffusionConfig,
    PixelSpaceConfig,
)
from genvlm.config.schema import to_plain
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.models.diffusion.model import Denoiser, DiffusionModel, LatentSpace
from genvlm.models.diffusion.network import build_network
from genvlm.models.diffusion.schedule import build_schedule
from genvlm.models.text_encoder import TextCoder, Texts
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors

SCHEMA = 1
TOKENIZERS, AUTOENCODER, TEXT_ENCODER = "tokenizers", "autoencoder", "text_encoder"


def build_denoiser(
    config: DiffusionConfig, shape: tuple[int, int, int], texts: Texts, *, seed: int = 0
) -> Denoiser:
    """Network and text encoder, the network freshly initialised. Raises ConfigError: no fit."""
    return Denoiser(build_network(config.network, shape, texts.width, seed=seed), texts.encoder)


def assemble(
    denoiser: Denoiser,
    config: DiffusionConfig,
    latents: LatentSpace,
    texts: TextCoder,
    condition_dropout: float,
) -> DiffusionModel:
    """The model of these weights, in eval mode and without gradients."""
    denoiser.eval().requires_grad_(False)
    payload = {
        "schema": SCHEMA,
        "weights": fingerprint_tensors(denoiser.state_dict()),
        "config": to_plain(in_folder(config)),
        "latents": latents.fingerprint,
        "texts": texts.fingerprint,
    }
    return DiffusionModel(
        denoiser=denoiser,
        schedule=build_schedule(config.schedule.kind, config.schedule.num_levels),
        prediction=config.prediction,
        latents=latents,
        texts=texts,
        condition_dropout=condition_dropout,
        fingerprint=fingerprint_of(payload),
    )


def in_folder(config: DiffusionConfig, root: str = "") -> DiffusionConfig:
    """The configuration with its parts where a model folder has them, behind `root`."""
    text, latents = config.text_encoder, config.latents
    if isinstance(text, SmallTextEncoderConfig):
        text = replace(text, tokenizer=root + TOKENIZERS)
    else:
        text = replace(text, path=root + TEXT_ENCODER)
    if not isinstance(latents, PixelSpaceConfig):
        name = TOKENIZERS if latents.kind == "vqgan" else AUTOENCODER
        latents = replace(latents, path=root + name)
    return replace(config, text_encoder=text, latents=latents)

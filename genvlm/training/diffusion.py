"""Training of a diffusion model: a configuration in, a model folder out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from genvlm.config.assets import resolve_path
from genvlm.config.diffusion import (
    DiffusionTrainConfig,
    VQLatentsConfig,
)
from genvlm.config.schema import to_plain
from genvlm.config.text_encoder import FrozenTextEncoderConfig
from genvlm.data.pairs import Pairs, PairSource, build_pairs, standardised
from genvlm.models.diffusion.build import assemble, build_denoiser
from genvlm.models.diffusion.folder import restore_denoiser, save_diffusion, trained_state
from genvlm.models.diffusion.latents import VQLatents, build_latents, measure_scale, raw_latents
from genvlm.models.diffusion.model import DiffusionModel, LatentSpace
from genvlm.models.diffusion.schedule import build_schedule
from genvlm.models.model_folder import is_finished
from genvlm.models.text_encoder import TextCoder, build_texts
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.training.card import describe_weights, licences, list_sources
from genvlm.training.memory import check_model_memory
from genvlm.training.objectives.denoising import DenoisingObjective
from genvlm.training.run_folder import MODEL_FOLDER, claim_inputs, hold_run
from genvlm.training.steps import Progress, run_steps


def train_diffusion(
    config: DiffusionTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a diffusion model.

    Args:
        cache: a folder for encoded pictures, which runs may share; by default of the run itself.

    Returns:
        The model folder `out/model`, of the averaged weights where there is an average.

    Raises:
        TrainingError: `out` holds another run, is in use, the model needs more memory than there
            is, or the gradient stays non-finite.
        TokenError: a caption is longer than the text encoder takes.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    progress = progress or Progress()
    with hold_run(config, out, resume) as first:
        source, objective, latents, texts = prepare_diffusion(
            config, cache or out / "cache", progress.encode
        )
        check_model_memory(config, objective)
        inputs = {
            "text encoder": fingerprint_tensors(objective.denoiser.text_encoder.state_dict()),
            "text tokenizer": texts.fingerprint,
            "latent space": latents.fingerprint,
            "set of pairs": source.pairs.fingerprint,
        }
        if first:
            claim_inputs(inputs, out)
        trained = run_steps(
            config, out, resume, source, objective, progress, inputs=inputs, unit="pairs"
        )
        if first and (trained.ran or not is_finished(out / MODEL_FOLDER)):
            model = _trained_model(config, latents, trained.weights)
            card = _card(config, source.pairs, model)
            save_diffusion(model, config.model, out / MODEL_FOLDER, card)
    return out / MODEL_FOLDER


class DiffusionRun(NamedTuple):
    """What a diffusion model is trained on, and the objective that holds it, as initialised."""

    source: PairSource
    objective: DenoisingObjective
    latents: LatentSpace
    texts: TextCoder


def prepare_diffusion(
    config: DiffusionTrainConfig,
    cache: Path,
    encode: Callable[[int, int], None] = lambda done, total: None,
) -> DiffusionRun:
    """Everything in front of the first step; `encode` is told the pictures encoded and in all."""
    texts = build_texts(config.model.text_encoder, seed=config.seed)
    latents, pairs = encode_pairs(config, cache, encode)
    torch.manual_seed(config.seed)
    denoiser = build_denoiser(config.model, latents.shape, texts, seed=config.seed)
    schedule = build_schedule(config.model.schedule.kind, config.model.schedule.num_levels)
    source = PairSource(
        pairs=pairs,
        encode_texts=texts.coder.encode,
        condition_dropout=config.data.condition_dropout,
        num_levels=len(schedule),
        level_sampling=config.objective.level_sampling,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
    )
    source.check()
    objective = DenoisingObjective(
        denoiser,
        schedule,
        config.model.prediction,
        weighting=config.objective.weighting,
        min_snr_gamma=config.objective.min_snr_gamma,
    )
    return DiffusionRun(source, objective, latents, texts.coder)


def _trained_model(
    config: DiffusionTrainConfig, latents: LatentSpace, weights: Mapping[str, Tensor]
) -> DiffusionModel:
    """A model of its own; a frozen text encoder, which DeepSpeed may have rounded, is read anew."""
    of_denoiser = {name.removeprefix("denoiser."): t for name, t in weights.items()}
    frozen = isinstance(config.model.text_encoder, FrozenTextEncoderConfig)
    trained = {
        n: t for n, t in of_denoiser.items() if not (frozen and n.startswith("text_encoder."))
    }
    texts = build_texts(config.model.text_encoder)
    whole = restore_denoiser(config.model, latents.shape, texts, trained, "the trained model")
    return assemble(whole, config.model, latents, texts.coder, config.data.condition_dropout)


def encode_pairs(
    config: DiffusionTrainConfig,
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LatentSpace, Pairs]:
    """The latent space and all pairs in it; a VQ-GAN's is scaled by the distinct pictures."""
    space = config.model.latents
    if not isinstance(space, VQLatentsConfig):
        latents = build_latents(space, None)
        return latents, build_pairs(
            config.data, latents.encode, latents.fingerprint, cache, progress
        )
    tokenizer = load_image_tokenizer(resolve_path(space.path))
    raw = build_pairs(
        config.data,
        lambda pictures: raw_latents(tokenizer, pictures),
        tokenizer.fingerprint,
        cache,
        progress,
    )
    scale = measure_scale(raw.latents)
    return VQLatents(tokenizer, scale), standardised(raw, *scale)


def _card(config: DiffusionTrainConfig, pairs: Pairs, model: DiffusionModel) -> str:
    num_parameters = sum(t.numel() for t in trained_state(model.denoiser).values())
    channels, rows, columns = model.latents.shape
    parts, weights = config.model, describe_weights(config.ema_decay)
    return f"""# A genvlm diffusion model

- network: {parts.network.kind}, {num_parameters:,} trained parameters ({weights})
- text encoder: {parts.text_encoder.kind}
- latents: {parts.latents.kind}, {channels} x {rows} x {columns}
- schedule: {parts.schedule.kind}, {parts.schedule.num_levels:,} levels, predicts {parts.prediction}

Trained for {config.num_steps:,} steps of {config.global_batch_size} pairs ({config.precision}, seed
{config.seed}) on {len(pairs):,} captions of {len(pairs.latents):,} pictures, with
{config.data.condition_dropout:.0%} of the captions dropped:

{list_sources(config.data.sources)}

Fingerprint `{model.fingerprint}`.

Bounds on likelihoods are of latents, not of pixels, unless its latents are pixels.
{licences([to_plain(s) for s in config.data.sources])}"""

"""Training of a projector: a configuration in, a model folder out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.schema import to_plain
from genvlm.data.captioning import CaptioningSource
from genvlm.data.pairs import Pairs, build_pixel_pairs
from genvlm.models.auxiliary.language_model import Language
from genvlm.models.auxiliary.projector import (
    ProjectorModel,
    assemble_projector,
    build_projector,
    load_trained,
)
from genvlm.models.auxiliary.projector_folder import save_projector
from genvlm.models.auxiliary.seeing import build_seeing
from genvlm.models.model_folder import is_finished
from genvlm.models.patches import PatchReader
from genvlm.models.text_only import build_language
from genvlm.nn.frozen import Frozen
from genvlm.tokenization.image_slots import lay_out, parse_prompt
from genvlm.training.card import describe_weights, licences, list_sources
from genvlm.training.frozen import check_frozen
from genvlm.training.memory import check_model_memory
from genvlm.training.objectives.captioning import (
    CaptioningObjective,
    fingerprint_frozen,
)
from genvlm.training.run_folder import MODEL_FOLDER, claim_inputs, hold_run
from genvlm.training.steps import Progress, run_steps


def train_projector(
    config: ProjectorTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a projector onto a frozen language model, and an image encoder that is not frozen.

    Args:
        cache: a folder for encoded pictures, which runs may share; by default of the run itself.

    Returns:
        The model folder `out/model`, of the averaged weights where there is an average.

    Raises:
        TrainingError: `out` holds another run, is in use, the gradient stays non-finite, or frozen
            weights are no longer what they were.
        TokenError: a caption that the language model does not take.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    progress = progress or Progress()
    with hold_run(config, out, resume) as first:
        source, objective, patches, language = prepare_projector(
            config, cache or out / "cache", progress.encode
        )
        check_model_memory(config, objective)
        inputs = {
            "image encoder": patches.fingerprint,
            "language model": language.fingerprint,
            "set of pairs": source.pairs.fingerprint,
        }
        if first:
            claim_inputs(inputs, out)
        frozen = fingerprint_frozen(objective)
        trained = run_steps(
            config, out, resume, source, objective, progress, inputs=inputs, unit="tokens"
        )
        check_frozen(fingerprint_frozen(objective), frozen)
        if first and (trained.ran or not is_finished(out / MODEL_FOLDER)):
            model = _trained_model(config, patches, language, trained.weights)
            card = _card(config, source.pairs, model)
            save_projector(model, config.model, out / MODEL_FOLDER, card)
    return out / MODEL_FOLDER


class ProjectorRun(NamedTuple):
    """What a projector is trained on, and the objective that holds it, as initialised."""

    source: CaptioningSource
    objective: CaptioningObjective
    patches: PatchReader
    language: Language


def prepare_projector(
    config: ProjectorTrainConfig,
    cache: Path | None,
    encode: Callable[[int, int], None] = lambda done, total: None,
) -> ProjectorRun:
    """Everything in front of the first step; `encode` is told the pictures read and in all."""
    patches = build_seeing(config.model.image_encoder, seed=config.seed)
    language = build_language(config.model.language_model)
    pairs = build_pixel_pairs(config.data, patches.side, cache, encode)
    projector = build_projector(config.model, patches, language)
    projector.init_weights(config.seed)
    prompt = parse_prompt(config.model.prompt)
    source = CaptioningSource(
        pairs=pairs,
        lay_out=lambda caption: lay_out(
            prompt, language.coder, num_images=1, num_vectors=projector.num_vectors,
            answer=caption, context=language.model.context,
        ),
        global_batch_size=config.global_batch_size,
        seed=config.seed,
    )  # fmt: skip
    source.check()
    objective = CaptioningObjective(projector, patches.encoder, language.model)
    return ProjectorRun(source, objective, patches, language)


def _trained_model(
    config: ProjectorTrainConfig,
    patches: PatchReader,
    language: Language,
    weights: Mapping[str, Tensor],
) -> ProjectorModel:
    projector = build_projector(config.model, patches, language)
    of_trained = {name.removeprefix("projector."): t for name, t in weights.items()}
    load_trained(projector, patches.encoder, of_trained, "the trained model")
    return assemble_projector(projector, config.model, patches, language)


def _card(config: ProjectorTrainConfig, pairs: Pairs, model: ProjectorModel) -> str:
    learning, seeing, speaking = (
        f"{sum(p.numel() for p in part.parameters()):,} "
        f"{'frozen' if isinstance(part, Frozen) else 'trained'} parameters"
        for part in (model.projector, model.patches.encoder, model.language.model)
    )
    parts, weights = config.model, describe_weights(config.ema_decay)
    return f"""# A genvlm projector

- projector: {parts.projector}, {learning} ({weights}),
  {model.projector.num_vectors} vectors of a picture
- image encoder: {parts.image_encoder.kind}, {seeing},
  {model.patches.num_patches} patches of width {model.patches.width}
- language model: {parts.language_model.kind}, {speaking}
- prompt: `{parts.prompt}`

Trained for {config.num_steps:,} steps of {config.global_batch_size} pairs ({config.precision}, seed
{config.seed}) on {len(pairs):,} captions of {len(pairs.latents):,} pictures:

{list_sources(config.data.sources)}

Frozen weights were compared before and after, bit for bit.

Fingerprint `{model.fingerprint}`.
{licences([to_plain(s) for s in config.data.sources])}"""

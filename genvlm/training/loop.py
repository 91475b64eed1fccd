"""Training of a mixed-modal transformer: a configuration in, a model folder out."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from genvlm.config.assets import resolve_path
from genvlm.config.training import TrainConfig
from genvlm.data.batches import BatchSource
from genvlm.data.corpus import Corpus, build_corpus
from genvlm.data.tokenising import Tokenizers
from genvlm.models.build import build_transformer
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.models.model_folder import is_finished
from genvlm.models.pretrained import (
    PretrainedModel,
    build_vocabulary,
    codebooks_of,
    save_pretrained,
)
from genvlm.nn.safetensors_folder import load_into
from genvlm.tokenization.coarse import merge_codes, merge_video_codes
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.tokenization.text import load_text_tokenizer
from genvlm.tokenization.video import load_video_tokenizer
from genvlm.training.card import licences, list_sources
from genvlm.training.footprint import flops_per_token
from genvlm.training.memory import check_memory
from genvlm.training.objectives.next_token import NextTokenObjective, modality_weights
from genvlm.training.run_folder import MODEL_FOLDER, claim_inputs, hold_run
from genvlm.training.steps import Progress, run_steps


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Path:
    """Train a mixed-modal transformer.

    Args:
        cache: a folder for tokenised documents, which runs may share; by default of the run itself.

    Returns:
        The model folder `out/model`.

    Raises:
        TrainingError: `out` holds another run, is in use, the model needs more memory than there
            is, or the gradient stays non-finite.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    progress = progress or Progress()
    # One process of several holds the folder and writes into it; the others take part in steps.
    with hold_run(config, out, resume) as first:
        check_memory(config, progress.say if first else lambda message: None)
        source, objective, tokenizers = prepare_transformer(
            config, cache or out / "cache", progress.encode
        )
        inputs = {
            "text tokenizer": tokenizers.text.fingerprint,
            "image tokenizer": tokenizers.image.fingerprint,
        }
        if tokenizers.video is not None:
            inputs["video tokenizer"] = tokenizers.video.fingerprint
        inputs["corpus"] = source.corpus.fingerprint
        if first:
            claim_inputs(inputs, out)
        flops = partial(flops_per_token, config.model, source.vocabulary.size)
        trained = run_steps(
            config, out, resume, source, objective, progress,
            inputs=inputs, unit="tokens", flops_per_token=flops,
        )  # fmt: skip
        if first and (trained.ran or not is_finished(out / MODEL_FOLDER)):
            pretrained = PretrainedModel(
                model=_trained_model(config, source.vocabulary.size, trained.weights),
                text_tokenizer=tokenizers.text,
                image_tokenizer=tokenizers.image,
                video_tokenizer=tokenizers.video,
                condition_dropout=config.data.condition_dropout,
                syntax=config.syntax,
                text_only=not (source.corpus.num_pictures or source.corpus.num_videos),
            )
            card = _card(config, source.corpus, pretrained)
            save_pretrained(pretrained, out / MODEL_FOLDER, card)
    return out / MODEL_FOLDER


def load_tokenizers(config: TrainConfig) -> Tokenizers:
    """What a run's texts, pictures and clips become tokens with."""
    image = load_image_tokenizer(resolve_path(config.tokenizers.image))
    folder, video = config.tokenizers.video, None
    if folder is not None:
        video = load_video_tokenizer(resolve_path(folder))
    if (num_codes := config.tokenizers.num_codes) is not None:
        image = merge_codes(image, num_codes)
        video = merge_video_codes(video, num_codes) if video is not None else None
    return Tokenizers(
        text=load_text_tokenizer(resolve_path(config.tokenizers.text)),
        image=image,
        video=video,
        max_side=config.syntax.max_side,
    )


class TransformerRun(NamedTuple):
    """What a transformer is trained on, and the objective that holds it, freshly initialised."""

    source: BatchSource
    objective: NextTokenObjective
    tokenizers: Tokenizers


def prepare_transformer(
    config: TrainConfig,
    cache: Path,
    encode: Callable[[int, int], None] = lambda done, total: None,
) -> TransformerRun:
    """Everything in front of the first step; `encode` is told the visuals encoded, and in all."""
    tokenizers = load_tokenizers(config)
    corpus = build_corpus(config.data, tokenizers, cache, encode)
    source = build_source(config, tokenizers, corpus)
    source.check()
    torch.manual_seed(config.seed)
    model = build_transformer(
        config.model,
        source.vocabulary.size,
        seed=config.seed,
        codebooks=codebooks_of(tokenizers.image, tokenizers.video),
    )
    objective = NextTokenObjective(model, config.objective.z_loss_weight)
    return TransformerRun(source, objective, tokenizers)


def build_source(config: TrainConfig, tokenizers: Tokenizers, corpus: Corpus) -> BatchSource:
    """What cuts a corpus into the batches of a run."""
    objective = config.objective
    return BatchSource(
        corpus=corpus,
        config=config.data,
        vocabulary=build_vocabulary(
            tokenizers.text, tokenizers.image, config.syntax, tokenizers.video
        ),
        text_tokenizer=tokenizers.text,
        grid=tokenizers.image.grid,
        max_tokens=config.model.context_length,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        modality_weights=modality_weights(
            objective.text_weight, objective.image_weight, objective.video_weight
        ),
    )


def _trained_model(
    config: TrainConfig, vocab_size: int, weights: Mapping[str, Tensor]
) -> MixedModalTransformer:
    """What a run ended with, in a model of its own: ZeRO 3 has emptied the trained one."""
    with torch.device("meta"):
        model = build_transformer(config.model, vocab_size)
    of_model = {name.removeprefix("model."): t for name, t in weights.items()}
    load_into(model, of_model, "the trained model", assign=True)
    return model


def _card(config: TrainConfig, corpus: Corpus, pretrained: PretrainedModel) -> str:
    num_parameters = sum(p.numel() for p in pretrained.model.parameters())
    rows = "packed rows" if config.data.packing else "documents"
    visuals = f" with {corpus.num_pictures:,} pictures"
    if corpus.num_videos:
        visuals += f" and {corpus.num_videos:,} clips"
    if pretrained.text_only:
        visuals = " of text alone: it has seen no picture, and log p(image) of it means nothing"
    return f"""# A genvlm mixed-modal transformer

{num_parameters:,} parameters, {pretrained.vocabulary.size:,} token ids, context
{config.model.context_length}. Trained for {config.num_steps:,} steps of
{config.global_batch_size} {rows} ({config.precision}, seed {config.seed}) on
{len(corpus):,} documents{visuals}:

{list_sources(config.data.sources)}

Fingerprint `{pretrained.fingerprint}`.

Likelihoods: p(text) is of the canonical segmentation, p(image) of codes, not of pixels.
{licences(corpus.origins)}"""

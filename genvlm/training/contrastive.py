"""Training of a contrastive model: a configuration in, a model folder out."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.schema import to_plain
from genvlm.data.caption_batches import CaptionSource, fit_pixels
from genvlm.data.pairs import Pairs, build_pairs
from genvlm.models.auxiliary.contrastive import ContrastiveModel
from genvlm.models.auxiliary.contrastive_folder import (
    build_dual_encoder,
    restore_contrastive,
    save_contrastive,
    trained_state,
)
from genvlm.models.model_folder import is_finished
from genvlm.models.text_encoder import Texts
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.training.card import licences, list_sources
from genvlm.training.memory import check_model_memory
from genvlm.training.objectives.contrastive import ContrastiveObjective
from genvlm.training.run_folder import MODEL_FOLDER, claim_inputs, hold_run
from genvlm.training.steps import Progress, run_steps


def train_contrastive(
    config: ContrastiveTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train a contrastive model.

    Returns:
        The model folder `out/model`, of the averaged weights where there is an average.

    Raises:
        TrainingError: `out` holds another run, is in use, the model needs more memory than there
            is, a batch of one pair, or the gradient stays non-finite.
        TokenError: a caption is longer than the text encoder takes.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    progress = progress or Progress()
    with hold_run(config, out, resume) as first:
        source, objective, texts = prepare_contrastive(config, out / "cache", progress.encode)
        check_model_memory(config, objective)
        inputs = {
            "frozen encoders": fingerprint_tensors(_frozen(config, objective)),
            "text tokenizer": texts.coder.fingerprint,
            "set of pairs": source.pairs.fingerprint,
        }
        if first:
            claim_inputs(inputs, out)
        trained = run_steps(
            config, out, resume, source, objective, progress, inputs=inputs, unit="pairs"
        )
        if first and (trained.ran or not is_finished(out / MODEL_FOLDER)):
            weights = {n.removeprefix("model."): t for n, t in trained.weights.items()}
            # Frozen encoders are read anew: DeepSpeed may have rounded them.
            kept = trained_state(objective.model, config.model).keys()
            model = restore_contrastive(
                config.model, {n: t for n, t in weights.items() if n in kept}, "the trained model"
            )
            card = _card(config, source.pairs, model)
            save_contrastive(model, config.model, out / MODEL_FOLDER, card)
    return out / MODEL_FOLDER


class ContrastiveRun(NamedTuple):
    """What a contrastive model is trained on, and the objective that holds it, as initialised."""

    source: CaptionSource
    objective: ContrastiveObjective
    texts: Texts


def prepare_contrastive(
    config: ContrastiveTrainConfig,
    cache: Path | None,
    encode: Callable[[int, int], None] = lambda done, total: None,
) -> ContrastiveRun:
    """Everything in front of the first step; `encode` is told the pictures read and in all."""
    torch.manual_seed(config.seed)
    network, texts, side = build_dual_encoder(config.model, seed=config.seed)
    pairs = build_pairs(
        config.data, lambda images: fit_pixels(images, side), f"pixels {side}", cache, encode
    )
    source = CaptionSource(
        pairs=pairs,
        encode_texts=texts.coder.encode,
        negatives=config.objective.negatives,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
    )
    source.check()
    objective = ContrastiveObjective(network, config.objective.chunk_rows)
    return ContrastiveRun(source, objective, texts)


def _frozen(
    config: ContrastiveTrainConfig, objective: ContrastiveObjective
) -> dict[str, torch.Tensor]:
    trained = trained_state(objective.model, config.model).keys()
    return {n: t for n, t in objective.model.state_dict().items() if n not in trained}


def _card(config: ContrastiveTrainConfig, pairs: Pairs, model: ContrastiveModel) -> str:
    parts, decay = config.model, config.ema_decay
    num = sum(t.numel() for t in trained_state(model.network, parts).values())
    weights = "last weights" if decay is None else f"average of the weights, decay {decay}"
    negatives = ", with swapped captions as negatives" if config.objective.negatives else ""
    return f"""# A genvlm contrastive model

- loss: {parts.loss}{negatives}
- image encoder: {parts.image_encoder.kind}; text encoder: {parts.text_encoder.kind}
- {num:,} trained parameters ({weights}); embeddings of {parts.embedding_dim} numbers

Trained for {config.num_steps:,} steps of {config.global_batch_size} pairs,
{config.micro_batch_size} a process and pass ({config.precision}, seed {config.seed}), on
{len(pairs):,} captions of {len(pairs.latents):,} pictures:

{list_sources(config.data.sources)}

Fingerprint `{model.fingerprint}`.

It compares a picture and a text; it knows no probability of either, and draws nothing.
{licences([to_plain(s) for s in config.data.sources])}"""

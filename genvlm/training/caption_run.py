"""A run of a model that reads captioned pictures: a configuration in, a model folder out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.schema import to_plain
from genvlm.data.caption_batches import CaptionSource
from genvlm.data.images import RGBImage
from genvlm.data.pairs import Pairs, build_pairs, build_pixel_pairs
from genvlm.models.auxiliary.folder import Built, Family, frozen_state, trained_state
from genvlm.models.model_folder import is_finished
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.tokenization.image import ImageTokenizer
from genvlm.training.card import describe_weights, licences, list_sources
from genvlm.training.frozen import check_frozen
from genvlm.training.memory import check_model_memory
from genvlm.training.run_folder import MODEL_FOLDER, claim_inputs, hold_run
from genvlm.training.steps import Progress, run_steps

CaptionTrainConfig = ContrastiveTrainConfig | CoCaTrainConfig | MaskedTrainConfig
Network = TypeVar("Network", bound=nn.Module)


class CaptionRun(NamedTuple, Generic[Network]):
    """What a kind of run is made of."""

    family: Family[Any, Network]
    objective: Callable[[Network], nn.Module]
    """Keeps the network as `model`."""
    negatives: bool
    """As of `CaptionSource`."""
    about: str
    """Lines of the card about the model."""
    limits: str
    """The last line of the card: what it cannot do."""
    image_tokenizer: Callable[[], ImageTokenizer] | None = None
    """Loads the one whose codes the model learns to tell."""


class PreparedCaptions(NamedTuple):
    """Batches, and the objective that holds the network, as initialised."""

    source: CaptionSource
    objective: nn.Module


def train_on_captions(
    config: CaptionTrainConfig,
    out: Path,
    run: CaptionRun[Any],
    *,
    resume: bool,
    progress: Progress | None,
    cache: Path | None = None,
) -> Path:
    """Train.

    Args:
        cache: a folder for encoded pictures, which runs may share; by default of the run itself.

    Returns:
        The model folder `out/model`, of the averaged weights where there is an average.

    Raises:
        TrainingError: `out` holds another run, is in use, the model needs more memory than there
            is, a batch of one pair, the gradient stays non-finite, or frozen weights are no longer
            what they were.
        TokenError: a caption is longer than the model takes.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    progress = progress or Progress()
    with hold_run(config, out, resume) as first:
        source, objective = prepare_captions(config, run, cache or out / "cache", progress.encode)
        check_model_memory(config, objective)
        inputs = {
            "frozen encoder": fingerprint_tensors(frozen_state(objective)),
            "texts": source.texts_fingerprint,
            "set of pairs": source.fingerprint,
        }
        if first:
            claim_inputs(inputs, out)
        trained = run_steps(
            config, out, resume, source, objective, progress, inputs=inputs, unit="pairs"
        )
        after = fingerprint_tensors(frozen_state(objective))
        check_frozen({"encoder": after}, {"encoder": inputs["frozen encoder"]})
        if first and (trained.ran or not is_finished(out / MODEL_FOLDER)):
            weights = {n.removeprefix("model."): t for n, t in trained.weights.items()}
            built = run.family.restore(config.model, weights, "the trained model")
            card = _card(config, run, source.pairs, built)
            run.family.save(config.model, built, out / MODEL_FOLDER, card)
    return out / MODEL_FOLDER


def prepare_captions(
    config: CaptionTrainConfig,
    run: CaptionRun[Any],
    cache: Path | None,
    encode: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedCaptions:
    """Everything in front of the first step.

    Args:
        encode: is told the pictures read and in all.
    """
    torch.manual_seed(config.seed)
    network, texts, side = run.family.build(config.model, config.seed)
    pairs = build_pixel_pairs(config.data, side, cache, encode)
    codes = None
    if run.image_tokenizer is not None:
        codes = _codes(config, run.image_tokenizer(), cache, encode)
    source = CaptionSource(
        pairs=pairs,
        codes=codes,
        encode_texts=texts.encode,
        texts_fingerprint=texts.fingerprint,
        negatives=run.negatives,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
    )
    source.check()
    return PreparedCaptions(source, run.objective(network))


def _codes(
    config: CaptionTrainConfig,
    tokenizer: ImageTokenizer,
    cache: Path | None,
    encode: Callable[[int, int], None],
) -> Int[Tensor, "pictures cells"]:
    def encoded(images: Sequence[RGBImage]) -> Tensor:
        return torch.from_numpy(tokenizer.encode(images))[:, None]

    pairs = build_pairs(config.data, encoded, f"codes {tokenizer.fingerprint}", cache, encode)
    return pairs.latents.flatten(1).long()


def _card(config: CaptionTrainConfig, run: CaptionRun[Any], pairs: Pairs, built: Built[Any]) -> str:
    num = sum(t.numel() for t in trained_state(built.network).values())
    weights = describe_weights(config.ema_decay)
    return f"""# A genvlm model of kind {run.family.kind}

{run.about}
- image encoder: {config.model.image_encoder.kind}
- {num:,} trained parameters ({weights}); embeddings of {config.model.embedding_dim} numbers

Trained for {config.num_steps:,} steps of {config.global_batch_size} pairs,
{config.micro_batch_size} a process and pass ({config.precision}, seed {config.seed}), on
{len(pairs):,} captions of {len(pairs.latents):,} pictures:

{list_sources(config.data.sources)}

Fingerprint `{run.family.fingerprint(config.model, built)}`.

{run.limits}
{licences([to_plain(s) for s in config.data.sources])}"""

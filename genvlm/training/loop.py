"""The training loop: batches in, optimizer steps, log, checkpoints, at the end a model folder."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from genvlm.config.assets import resolve_path
from genvlm.config.data import CaptionsSource, DocumentsSource
from genvlm.config.schema import to_plain
from genvlm.config.training import TrainConfig
from genvlm.data.batches import BatchSource
from genvlm.data.corpus import Corpus, build_corpus
from genvlm.data.emoji import LICENCES
from genvlm.errors import TrainingError
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import (
    PretrainedModel,
    build_vocabulary,
    is_finished,
    save_pretrained,
)
from genvlm.tokenization.coarse import merge_codes
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.tokenization.text import load_text_tokenizer
from genvlm.training.checkpoint import (
    checkpoint_step,
    newest_valid,
    save_checkpoint,
)
from genvlm.training.engine import Engine, StepResult, learning_rate
from genvlm.training.objectives.next_token import (
    NextTokenObjective,
    bfloat16_supported,
    modality_weights,
)
from genvlm.training.run_folder import (
    CHECKPOINTS,
    LOG_FILE,
    MODEL_FOLDER,
    claim_inputs,
    claim_run,
    cut_log,
    lock_run,
)
from genvlm.training.stopping import StoppedError, stop_signals


@dataclass(frozen=True)
class Progress:
    """Callbacks of a run; the command line draws them."""

    tokenize: Callable[[int, int], None] = lambda done, total: None
    """Pictures encoded, pictures in all."""
    step: Callable[[dict[str, float], int], None] = lambda record, num_steps: None
    """A log record, steps in all."""
    say: Callable[[str], None] = lambda message: None


def train(
    config: TrainConfig, out: Path, *, resume: bool = False, progress: Progress | None = None
) -> Path:
    """Train a mixed-modal transformer.

    Returns:
        The model folder `out/model`.

    Raises:
        TrainingError: `out` holds another run, is in use, or the gradient stays non-finite.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    progress = progress or Progress()
    if config.precision == "bfloat16" and not bfloat16_supported():
        raise TrainingError("this processor has no bfloat16 units: set precision to float32")
    # One process of several holds the folder and writes into it; the others take part in steps.
    first = os.environ.get("RANK", "0") == "0"
    with lock_run(out) if first else nullcontext():
        if first:
            claim_run(config, out, resume)
        text = load_text_tokenizer(resolve_path(config.tokenizers.text))
        image = load_image_tokenizer(resolve_path(config.tokenizers.image))
        if config.tokenizers.num_codes is not None:
            image = merge_codes(image, config.tokenizers.num_codes)
        corpus = build_corpus(
            config.data, image, out / "cache", progress.tokenize, max_side=config.syntax.max_side
        )
        if first:
            inputs = {
                "text tokenizer": text.fingerprint,
                "image tokenizer": image.fingerprint,
                "corpus": corpus.fingerprint,
            }
            claim_inputs(inputs, out)
        torch.manual_seed(config.seed)
        vocabulary = build_vocabulary(text, image, config.syntax)
        model = build_transformer(
            config.model, vocabulary.size, seed=config.seed, codebook=image.codebook
        )
        weights = modality_weights(config.objective.text_weight, config.objective.image_weight)
        source = BatchSource(
            corpus=corpus,
            config=config.data,
            vocabulary=vocabulary,
            text_tokenizer=text,
            grid=image.grid,
            max_tokens=config.model.context_length,
            global_batch_size=config.global_batch_size,
            seed=config.seed,
            modality_weights=weights,
        )
        source.check()
        objective = NextTokenObjective(
            model,
            config.objective.z_loss_weight,
            code_noise=config.objective.code_noise,
            codes=vocabulary.image_range,
        )
        ran = _run(config, out, resume, source, objective, progress)
        pretrained = PretrainedModel(
            model=model,
            text_tokenizer=text,
            image_tokenizer=image,
            condition_dropout=config.data.condition_dropout,
            syntax=config.syntax,
        )
        if first and (ran or not is_finished(out / MODEL_FOLDER)):
            save_pretrained(pretrained, out / MODEL_FOLDER, _card(config, corpus, pretrained))
    return out / MODEL_FOLDER


def _run(
    config: TrainConfig,
    out: Path,
    resume: bool,
    source: BatchSource,
    objective: NextTokenObjective,
    progress: Progress,
) -> bool:
    """All steps that are left; afterwards `objective.model` holds the trained weights.

    Returns:
        Whether there were any.
    """
    engine = _build_engine(config, objective)
    accum = config.grad_accum_steps(engine.num_processes)
    checkpoints = out / CHECKPOINTS
    start = 0
    if resume and (folder := newest_valid(checkpoints, progress.say)):
        engine.load(folder)
        start = checkpoint_step(folder)
        ended = " and finished already" if start >= config.num_steps else ""
        progress.say(f"resumed at step {start}{ended}")
    elif resume:
        progress.say(f"{checkpoints} holds no checkpoint: beginning at step 0")
    if engine.is_main:
        cut_log(out / LOG_FILE, start)
    began, tokens, window = time.monotonic(), 0, list[StepResult]()
    with (out / LOG_FILE).open("a") as log, stop_signals() as stopped:
        for step in range(start, config.num_steps):
            batches = source.batch(
                step, rank=engine.rank, num_ranks=engine.num_processes, accum=accum
            )
            result = engine.train_step(step, batches)
            tokens += sum(result.counts.values())
            window.append(result)
            done = step + 1
            if done % config.log_every == 0 or done == config.num_steps:
                rate = tokens / (time.monotonic() - began)
                record = _record(config, done, window, rate)
                window.clear()
                if engine.is_main:
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                    progress.step(record, config.num_steps)
            # Processes get the signal at different moments and must all leave at the same step.
            stop = engine.largest(stopped[0] if stopped else 0)
            if done % config.checkpoint_every == 0 or done == config.num_steps or stop:
                _save(engine, checkpoints, done)
            if stop and done < config.num_steps:
                raise StoppedError(done, stop)
    state = engine.state_dict()
    objective.load_state_dict({name: t.to(torch.float32) for name, t in state.items()})
    return start < config.num_steps


def _build_engine(config: TrainConfig, objective: NextTokenObjective) -> Engine:
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    return Engine(
        objective,
        config.optimizer,
        num_steps=config.num_steps,
        precision=config.precision,
        deepspeed=resolve_path(config.deepspeed) if config.deepspeed else None,
        micro_batch_size=config.micro_batch_size,
        grad_accum_steps=config.grad_accum_steps(num_processes),
    )


def _save(engine: Engine, checkpoints: Path, step: int) -> None:
    if engine.num_processes == 1:
        save_checkpoint(checkpoints, step, engine.save)
        return
    # Every process writes its part into one shared folder; the first one publishes it.
    shared = checkpoints / f".parts-{step:08d}"
    if engine.is_main:
        for left_by_a_kill in checkpoints.glob(".parts-*"):
            shutil.rmtree(left_by_a_kill)
    engine.wait()
    engine.save(shared)
    engine.wait()
    if engine.is_main:
        save_checkpoint(checkpoints, step, lambda folder: _move_into(shared, folder))
    engine.wait()


def _move_into(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
    source.rmdir()


def _record(
    config: TrainConfig, step: int, window: Sequence[StepResult], tokens_per_second: float
) -> dict[str, float]:
    """Means over the tokens of all steps since the last record: one batch holds like documents."""
    sums, counts = dict[str, float](), Counter[str]()
    for result in window:
        for name, mean in result.terms.items():
            sums[name] = sums.get(name, 0.0) + mean * result.counts[name]
            counts[name] += result.counts[name]
    return {
        "step": step,
        "loss": sum(sums.values()) / max(sum(counts.values()), 1),
        **{f"loss_{name}": total / counts[name] for name, total in sums.items()},
        "learning_rate": learning_rate(config.optimizer, step - 1, config.num_steps),
        "grad_norm": sum(r.grad_norm for r in window) / len(window),
        "skipped": float(sum(r.skipped for r in window)),
        "tokens_per_second": round(tokens_per_second, 1),
    }


def _card(config: TrainConfig, corpus: Corpus, pretrained: PretrainedModel) -> str:
    num_parameters = sum(p.numel() for p in pretrained.model.parameters())
    sources = "\n".join(f"- {to_plain(s)}" for s in config.data.sources)
    return f"""# A genvlm mixed-modal transformer

{num_parameters:,} parameters, {pretrained.vocabulary.size:,} token ids, context
{config.model.context_length}. Trained for {config.num_steps:,} steps of
{config.global_batch_size} documents ({config.precision}, seed {config.seed}) on
{len(corpus.samples):,} documents with {len(corpus.codes):,} pictures:

{sources}

Fingerprint `{pretrained.fingerprint}`.

Likelihoods: p(text) is of the canonical segmentation, p(image) of codes, not of pixels.
{_licences(config)}"""


def _licences(config: TrainConfig) -> str:
    """Of the shipped drawings; a user's own data have the user's terms."""
    own = (CaptionsSource, DocumentsSource)
    vendors = {v for s in config.data.sources if not isinstance(s, own) for v in s.vendors}
    return "".join(f"Drawings: {LICENCES[v]}.\n" for v in sorted(vendors))

"""`genvlm bench loader`: how long a training step waits for its batch, padded and packed."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from genvlm.config.assets import resolve_path
from genvlm.config.data import ScenesSource, ShardsSource, StoriesSource
from genvlm.config.schema import load_config
from genvlm.config.training import TrainConfig
from genvlm.data.corpus import Corpus, build_corpus
from genvlm.data.images import load_image, save_image
from genvlm.data.prefetch import prefetch
from genvlm.data.sharding import write_shards
from genvlm.data.shards import map_shard
from genvlm.data.tokenising import Tokenizers
from genvlm.models.build import build_transformer
from genvlm.studies.bench.report import Result, Row, time_row
from genvlm.studies.bench.timing import (
    Settings,
    ratio_of_medians,
    ratio_of_totals,
    time_interleaved,
)
from genvlm.tokenization.image import ImageTokenizer
from genvlm.training.engine import Engine
from genvlm.training.loop import build_source, load_tokenizers
from genvlm.training.objectives.next_token import NextTokenObjective

_CONFIG = "configs/demo/emoji.yaml"
# Two packed rows hold about as many tokens as the 12 documents of a padded batch.
_ROW, _PACKED_ROWS = 512, 2
# Of which some begin a section or an epoch, whose order is then made.
_STEPS = 100
_METHOD = (
    "From token shards of scenes and stories; model, optimizer and objective of "
    f"`{_CONFIG}`, the context {_ROW}. Padded: 12 documents a step. Packed: {_PACKED_ROWS} rows of "
    f"{_ROW} tokens. Made in the loop: `BatchSource.batch` beside the `Engine.train_step` that "
    "follows it. Read ahead: what the loop waits for `prefetch`, as training does. Means of "
    f"{_STEPS} steps in a row, which pass into new sections of the order; the ratio is the total "
    "of steps over that of waits, each interval by resampling steps. Tokens: batch and step, "
    "divided by the tokens that are no padding, packed and padded in turn. Codes: what shards keep "
    "of 64 pictures beside decoding the 64 PNG files. That is not the same work: the codes were "
    "computed once, and pixels would still have to be encoded."
)


def run(settings: Settings) -> Result:
    """Wait for data as a share of a step; packed beside padded; codes beside PNG decoding."""
    torch.set_num_threads(settings.threads)
    config = load_config(TrainConfig, resolve_path(_CONFIG))
    model = replace(config.model, context_length=_ROW)
    if settings.quick:
        model = replace(model, num_layers=1, hidden_size=64, num_heads=2, num_kv_heads=2)
        config = replace(config, global_batch_size=2, micro_batch_size=2)
    config = replace(config, model=model)
    packed_rows = 1 if settings.quick else _PACKED_ROWS
    num = 16 if settings.quick else 600
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings.say("encoding pictures")
        tokenizers = load_tokenizers(config)
        made_of = ScenesSource(num=num), StoriesSource(num=num // 100 + 1)  # as the demo mixes them
        write_shards(list(enumerate(made_of)), tokenizers, folder / "shards")
        shards = ShardsSource(path=str(folder / "shards"))
        config = replace(config, data=replace(config.data, sources=(shards,)))
        data = replace(config.data, packing=True)
        packed = replace(
            config,
            data=data,
            global_batch_size=packed_rows,
            micro_batch_size=packed_rows,
        )
        corpus = build_corpus(config.data, tokenizers, None)
        settings.say("steps and batches")
        runs = {
            "padded": _Run(config, tokenizers, corpus),
            "packed": _Run(packed, tokenizers, corpus),
        }
        rows = [
            _wait(name, run, settings, ahead=ahead)
            for name, run in runs.items()
            for ahead in (False, True)
        ]
        rows.append(_tokens(runs, settings))
        rows.append(_codes(tokenizers.image, corpus, folder, settings))
    return Result(
        bench="loader",
        shape=f"{_CONFIG}: {num} scenes and {num // 100 + 1} stories",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts={
            f"positions that hold a token, {name}": run.share_used for name, run in runs.items()
        },
    )


class _Run:
    """A configuration ready to take steps, one batch after another."""

    def __init__(self, config: TrainConfig, tokenizers: Tokenizers, corpus: Corpus) -> None:
        self.source = build_source(config, tokenizers, corpus)
        self.share_used = self.source.share_used()
        model = build_transformer(config.model, self.source.vocabulary.size, seed=0)
        objective = NextTokenObjective(model, config.objective.z_loss_weight)
        self.engine = Engine(objective, config.optimizer, num_steps=10**6, precision="float32")
        self.num_tokens: list[int] = []
        """Of the documents of each step that `take` took."""

    def take(self) -> None:
        """The next batch and its step."""
        step = len(self.num_tokens)
        batches = self.source.batch(step)
        self.engine.train_step(step, batches)
        pad = self.source.vocabulary.pad
        self.num_tokens.append(sum(int((b.token_ids != pad).sum()) for b in batches))


def _wait(name: str, run: _Run, settings: Settings, *, ahead: bool) -> Row:
    # The first two warm up: buffers, and the first order.
    steps = range((settings.num if settings.quick else _STEPS) + 2)
    waits, work = [], []
    batches_ahead = prefetch(run.source.batch, steps) if ahead else contextlib.nullcontext()
    with batches_ahead as fetched:
        for step in steps:
            begun = time.perf_counter()
            batches = run.source.batch(step) if fetched is None else next(fetched)
            waited = time.perf_counter()
            run.engine.train_step(step, batches)
            waits.append(waited - begun)
            work.append(time.perf_counter() - waited)
    wait, step_time = np.array(waits[2:]), np.array(work[2:])
    share = wait.sum() / (wait.sum() + step_time.sum())
    return time_row(
        f"wait for a {name} batch, {'read ahead' if ahead else 'made in the loop'}",
        "the step it is for", float(wait.mean()), float(step_time.mean()),
        ratio_of_totals(step_time, wait), settings, bar=100.0 if ahead else None,
        note=f"{share:.3%} of all time is waiting; the longest wait: {wait.max() * 1e3:.1f} ms",
    )  # fmt: skip


def _tokens(runs: dict[str, _Run], settings: Settings) -> Row:
    """Packed beside padded rows, by the token that is no padding."""
    seconds = time_interleaved({name: run.take for name, run in runs.items()}, settings.num)
    ours, theirs = (
        1000 * seconds[name] / np.array(runs[name].num_tokens[-settings.num :])
        for name in ("packed", "padded")
    )
    used = " and ".join(f"{runs[name].share_used:.1%}" for name in ("packed", "padded"))
    return time_row(
        "1,000 tokens in packed rows", "in padded ones",
        float(np.median(ours)), float(np.median(theirs)), ratio_of_medians(theirs, ours), settings,
        note=f"{used} of the positions hold a token",
    )  # fmt: skip


def _codes(image: ImageTokenizer, corpus: Corpus, folder: Path, settings: Settings) -> Row:
    num = 8 if settings.quick else 64
    paths = [folder / f"{i}.png" for i in range(num)]
    for picture, path in zip(image.decode(corpus.codes[:num]), paths, strict=True):
        save_image(picture, path)
    shard = next(folder.glob("shards/shard-*"))

    def read_codes() -> object:
        mapped = map_shard(shard)
        return [mapped.codes(i).copy() for i in range(num)]

    tasks: dict[str, Callable[[], object]] = {
        "codes": read_codes, "png": lambda: [load_image(path) for path in paths],
    }  # fmt: skip
    seconds = time_interleaved(tasks, settings.num)
    return time_row(
        f"codes of {num} pictures", "decoding their PNG files",
        float(np.median(seconds["codes"])), float(np.median(seconds["png"])),
        ratio_of_medians(seconds["png"], seconds["codes"]), settings, note="not the same work",
    )  # fmt: skip

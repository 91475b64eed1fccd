"""`genvlm bench decode`: greedy text, token by token, against transformers' Chameleon."""

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genvlm.generation.interleaved import sample_tokens
from genvlm.generation.sampling import SamplingSettings
from genvlm.studies.bench.models import Shape, Twins, build_twins, check_equal
from genvlm.studies.bench.plots import Curves
from genvlm.studies.bench.report import Result, Row, time_row
from genvlm.studies.bench.timing import (
    Settings,
    name_of_fastest,
    ratio_of_medians,
    read_bandwidth,
    time_interleaved,
)

_SHAPE = Shape(
    hidden_size=640, num_layers=8, num_heads=10, intermediate_size=1728, context_length=1152,
    num_words=4096, codebook_size=4096,
)  # fmt: skip
_QUICK = Shape(
    hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128, context_length=96,
    num_words=64, codebook_size=64,
)  # fmt: skip
_PROMPT, _NEW = 16, 32
_GROWING = ("genvlm", "transformers (a loop)")
_GROWTH_REPETITIONS = 3
_METHOD = (
    "Greedy continuation of random prompts in float32, prompt included, with a cache, by "
    "`sample_tokens` at temperature 0 (the grammar's masks included) and by the faster of "
    "transformers' `generate` and a plain loop over its model with a DynamicCache. All tokens were "
    "equal before anything was timed. Share of the bound: bytes that one step has to read "
    "(parameters but the embedding, keys and values of all rows) over the read bandwidth of a "
    "matrix times a vector, measured in the same run. Growth: seconds of a step at that "
    "place, from the difference of two lengths, median of 3."
)


def run(settings: Settings) -> Result:
    """Batch 1 and 8; growth with context and batch size.

    Raises:
        EvaluationError: the tokens differ.
    """
    shape = _QUICK if settings.quick else _SHAPE
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        settings.say("building the model twice")
        twins = build_twins(shape, Path(folder))
        bandwidth = read_bandwidth(32 if settings.quick else 512)
        rows: list[Row] = []
        for batch_size in (1, 8):
            settings.say(f"batch {batch_size}")
            rows += _compare(twins, batch_size, bandwidth, settings)
        settings.say("growth")
        curves = _growth(twins, settings)
    parameters = sum(p.numel() for p in twins.ours.model.parameters())
    return Result(
        bench="decode",
        shape=f"{shape} ({parameters / 1e6:.1f} M parameters); prompt {_PROMPT}, {_NEW} new tokens",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts={"read bandwidth, GB/s": bandwidth / 1e9},
        curves=curves,
    )


def prompts(twins: Twins, batch_size: int, length: int) -> list[list[int]]:
    """BOS and random words."""
    v = twins.ours.vocabulary
    rng = np.random.default_rng(0)
    drawn = rng.integers(v.text_range.start, v.text_range.stop, (batch_size, length - 1))
    return [[v.bos, *row] for row in drawn.tolist()]


def decode_ours(twins: Twins, prefixes: Sequence[Sequence[int]], num_new: int) -> Tensor:
    """The new tokens, in transformers' ids."""
    model, grammar = twins.ours.model, twins.ours.grammar
    length = len(prefixes[0])
    rows = sample_tokens(
        model, grammar, prefixes, SamplingSettings(temperature=0), seed=0,
        max_tokens=length + num_new,
    )  # fmt: skip
    return twins.foreign_ids[torch.tensor(rows)[:, length:]]


def decode_by_generate(twins: Twins, prefixes: Tensor, num_new: int) -> Tensor:
    """The new tokens, by transformers' `generate`."""
    ids = twins.theirs.generate(
        input_ids=prefixes, attention_mask=torch.ones_like(prefixes), max_new_tokens=num_new,
        do_sample=False, eos_token_id=None,
    )  # fmt: skip
    return ids[:, prefixes.shape[1] :]


def decode_by_loop(twins: Twins, prefixes: Tensor, num_new: int) -> Tensor:
    """The new tokens, by a loop without the services of `generate`."""
    from transformers import DynamicCache

    kept = DynamicCache(config=twins.theirs.config)
    ids, new = prefixes, []
    for _ in range(num_new):
        out = twins.theirs(input_ids=ids, cache=kept, use_cache=True, logits_to_keep=1)
        ids = out.logits[:, -1].argmax(-1, keepdim=True)
        new.append(ids)
    return torch.cat(new, 1)


def _compare(twins: Twins, batch_size: int, bandwidth: float, settings: Settings) -> list[Row]:
    prefixes = prompts(twins, batch_size, _PROMPT)
    foreign = twins.foreign_ids[torch.tensor(prefixes)]
    rivals = {
        "generate": lambda: decode_by_generate(twins, foreign, _NEW),
        "a loop": lambda: decode_by_loop(twins, foreign, _NEW),
    }
    tokens = decode_ours(twins, prefixes, _NEW)
    for name, rival in rivals.items():
        check_equal(f"greedy tokens of batch {batch_size} and those of {name}", tokens, rival())
    fastest = name_of_fastest(rivals)
    seconds = time_interleaved(
        {"ours": lambda: decode_ours(twins, prefixes, _NEW), "theirs": rivals[fastest]},
        settings.num,
    )
    ours, theirs = (float(np.median(s)) for s in seconds.values())
    row = time_row(
        f"decode, batch {batch_size}", f"transformers ({fastest})", ours, theirs,
        ratio_of_medians(seconds["theirs"], seconds["ours"]), settings, bar=1.0, bar_on="low",
        note=f"{batch_size * _NEW / ours:.0f} tokens/s beside {batch_size * _NEW / theirs:.0f}; "
        "all tokens equal",
    )  # fmt: skip
    bound = bandwidth / bytes_per_step(twins, batch_size, _PROMPT + _NEW // 2)
    share = Row(
        name=f"share of the bandwidth bound, batch {batch_size}", against=row.against,
        unit="share", ours=_NEW / ours / bound, theirs=_NEW / theirs / bound,
        note=f"the bound is {batch_size * bound:.0f} tokens/s",
    )  # fmt: skip
    return [row, share]


def bytes_per_step(twins: Twins, batch_size: int, length: int) -> int:
    """What one step of a batch must read: every weight once, keys and values of each row."""
    model = twins.ours.model
    weights = sum(p.nbytes for p in model.parameters()) - model.embedding.weight.nbytes
    config = model.config
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    return weights + batch_size * length * per_token * model.embedding.weight.element_size()


def _growth(twins: Twins, settings: Settings) -> list[Curves]:
    steps = 8 if settings.quick else 16
    lengths = (16, 32) if settings.quick else (16, 64, 256, 1024)
    sizes = (1, 2) if settings.quick else (1, 2, 4, 8, 16)

    @cache
    def per_step(batch_size: int, length: int) -> dict[str, float]:
        settings.say(f"growth, batch {batch_size}, context {length}")
        return _seconds_per_step(twins, batch_size, length, steps)

    def curve(name: str, label: str, points: Sequence[tuple[int, int, int]]) -> Curves:
        found = [(x, per_step(batch_size, length)) for x, batch_size, length in points]
        series = {key: [(x, 1000 * seconds[key]) for x, seconds in found] for key in _GROWING}
        return Curves(name=name, x_label=label, y_label="milliseconds a step", series=series)

    return [
        curve("context", "tokens before, batch 1", [(n, 1, n) for n in lengths]),
        curve("batch", "rows, 16 tokens before", [(b, b, 16) for b in sizes]),
    ]


def _seconds_per_step(twins: Twins, batch_size: int, length: int, steps: int) -> dict[str, float]:
    prefixes = prompts(twins, batch_size, length)
    foreign = twins.foreign_ids[torch.tensor(prefixes)]

    def task(ours: bool, num_new: int) -> Callable[[], object]:
        if ours:
            return lambda: decode_ours(twins, prefixes, num_new)
        return lambda: decode_by_loop(twins, foreign, num_new)

    tasks = {f"{name} {n}": task(name == "genvlm", n) for name in _GROWING for n in (1, 1 + steps)}
    seconds = time_interleaved(tasks, _GROWTH_REPETITIONS)
    return {
        name: float(np.median(seconds[f"{name} {1 + steps}"] - seconds[f"{name} 1"])) / steps
        for name in _GROWING
    }

"""`genvlm bench train`: optimizer steps against transformers' Chameleon."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genvlm.config.training import OptimizerConfig
from genvlm.data.batches import Batch
from genvlm.studies.bench.models import Twins, build_twins, check_close
from genvlm.studies.bench.report import Result, Row, time_row
from genvlm.studies.bench.score_text import QUICK, SHAPE
from genvlm.studies.bench.timing import Settings, ratio_of_medians, time_interleaved
from genvlm.tokenization.vocabulary import Modality
from genvlm.training.engine import Engine
from genvlm.training.objectives.next_token import NextTokenObjective, bfloat16_supported
from genvlm.training.optimizers import build_optimizers

_OPTIMIZER = OptimizerConfig(learning_rate=1e-4, warmup_steps=0)
_METHOD = (
    "Whole optimizer steps on one batch of random documents without padding: forward, loss of "
    "every token, backward, clipping of the gradient's norm to 1, fused AdamW. genvlm: "
    "`Engine.train_step`. transformers: its model and head (its own loss masks image codes) with "
    "rows for the two control tokens that it lacks, the same clipping, the same optimizer, by "
    "hand. Loss and all gradients of the first step were equal in float32 before anything was "
    "timed. bfloat16: both by hand under autocast, weights in float32."
)


def run(settings: Settings) -> Result:
    """Float32, and bfloat16 where there is some. Raises EvaluationError: gradients differ."""
    torch.set_num_threads(settings.threads)
    shape, (rows, tokens) = (QUICK, (2, 32)) if settings.quick else (SHAPE, (8, 256))
    with tempfile.TemporaryDirectory() as folder:
        settings.say("building the model twice")
        twins = build_twins(shape, Path(folder))
    batch = random_batch(twins, rows, tokens)
    compare_gradients(twins, batch)
    precisions = ["float32", *(["bfloat16"] if bfloat16_supported() else [])]
    tasks: dict[str, Callable[[], object]] = {}
    for precision in precisions:
        tasks |= {
            f"ours {precision}": our_step(twins, batch, precision),
            f"theirs {precision}": their_step(twins, batch, precision),
        }
    settings.say("time")
    seconds = time_interleaved(tasks, settings.num)
    return Result(
        bench="train",
        shape=f"{shape}; {rows} documents of {tokens} tokens",
        method=_METHOD,
        settings=settings,
        rows=_rows(seconds, settings),
        facts={"tokens a step": rows * (tokens - 1)},
    )


def random_batch(twins: Twins, num_rows: int, num_tokens: int) -> Batch:
    """Documents of random words and codes, each position learned."""
    v = twins.ours.vocabulary
    generator = torch.Generator().manual_seed(0)
    half = num_tokens // 2
    text = torch.randint(v.text_range.start, v.size, (num_rows, half), generator=generator)
    codes = torch.randint(
        len(v.image_range), (num_rows, num_tokens - half - 1), generator=generator
    )
    token_ids = torch.cat([torch.full((num_rows, 1), v.bos), text, codes], 1)
    weights = torch.ones(num_rows, num_tokens)
    weights[:, 0] = 0
    return Batch(
        token_ids=token_ids,
        modality=torch.full_like(token_ids, Modality.TEXT),
        positions=torch.full((num_rows, num_tokens, 3), -1),
        loss_weights=weights,
        loss_denominator=float(weights.sum()),
    )


def compare_gradients(twins: Twins, batch: Batch) -> None:
    """Raises EvaluationError unless loss and gradients of both are equal."""
    objective = NextTokenObjective(copy.deepcopy(twins.ours.model), 0.0).train().requires_grad_()
    loss = objective(batch).weighted_sum / batch.loss_denominator
    loss.backward()
    model = _trainable(twins.theirs)
    expected = their_loss(model, twins.foreign_ids[batch.token_ids])
    expected.backward()
    check_close("losses", loss.detach(), expected.detach(), 1e-5)
    theirs = dict(model.named_parameters())
    found = objective.model
    known = twins.foreign_ids >= 0
    for ours, foreign in (
        (found.embedding.weight, "model.embed_tokens.weight"),
        (found.head.proj.weight, "lm_head.weight"),
    ):
        expected = theirs[foreign].grad[twins.foreign_ids[known]]
        _compare(foreign, ours.grad[known], expected)  # type: ignore[index]
    for name, parameter in found.blocks.named_parameters():
        foreign = f"model.layers.{name}"
        for a, b in (
            (".attention.", ".self_attn."),
            (".attention_norm.", ".input_layernorm."),
            (".mlp_norm.", ".post_attention_layernorm."),
        ):
            foreign = foreign.replace(a, b)
        _compare(name, parameter.grad, theirs[foreign].grad)


def our_step(twins: Twins, batch: Batch, precision: str) -> Callable[[], object]:
    """An optimizer step by genvlm: its engine, which knows one precision a process."""
    objective = NextTokenObjective(copy.deepcopy(twins.ours.model), 0.0).requires_grad_()
    if precision == "float32":
        engine = Engine(objective, _OPTIMIZER, num_steps=10**6, precision=precision)
        return lambda: engine.train_step(0, [batch])
    return _by_hand(
        objective, lambda: objective(batch).weighted_sum / batch.loss_denominator, precision
    )


def their_step(twins: Twins, batch: Batch, precision: str) -> Callable[[], object]:
    """The same with transformers' model."""
    model, ids = _trainable(twins.theirs), twins.foreign_ids[batch.token_ids]
    return _by_hand(model, lambda: their_loss(model, ids), precision)


def _by_hand(model: nn.Module, loss: Callable[[], Tensor], precision: str) -> Callable[[], object]:
    (optimizer,) = build_optimizers(model, _OPTIMIZER, fused=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, _OPTIMIZER.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def their_loss(model: Any, ids: Tensor) -> Tensor:
    """Mean over all tokens but the first."""
    logits = model.lm_head(model.model(input_ids=ids[:, :-1]).last_hidden_state)
    return F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def _trainable(theirs: Any) -> Any:
    model = copy.deepcopy(theirs).train()
    # EOV and BOV, which it lacks and whose rows are zero in ours: one softmax over the same ids.
    weight = F.pad(model.lm_head.weight, (0, 0, 0, 2))
    model.lm_head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    model.lm_head.weight = nn.Parameter(weight)
    model.requires_grad_()
    model.model.vqmodel.requires_grad_(False)
    return model


def _compare(name: str, ours: Tensor | None, theirs: Tensor | None) -> None:
    assert ours is not None
    assert theirs is not None
    scale = float(theirs.abs().max()) or 1.0
    check_close(f"gradients of {name}", ours / scale, theirs / scale, 1e-3)


def _rows(seconds: dict[str, np.ndarray], settings: Settings) -> list[Row]:
    def row(ours: str, theirs: str, bar: float | None) -> Row:
        mine, other = seconds[f"ours {ours}"], seconds[f"theirs {theirs}"]
        return time_row(
            f"training step, {ours}", f"transformers {theirs}", float(np.median(mine)),
            float(np.median(other)), ratio_of_medians(other, mine), settings, bar=bar, bar_on="low",
            note="loss and gradients of float32 equal",
        )  # fmt: skip

    rows = [row("float32", "float32", 0.9)]
    if "ours bfloat16" in seconds:
        return [*rows, row("bfloat16", "float32", None), row("bfloat16", "bfloat16", None)]
    missing = "not measured here: this processor does not compute in bfloat16"
    against = "transformers bfloat16"
    return [*rows, Row(name="training step, bfloat16", against=against, unit="s", note=missing)]

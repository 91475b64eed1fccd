"""`genvlm bench loss`: head and cross-entropy in pieces, against plain logits."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.nn.layers import TokenHead
from genvlm.studies.bench.memory import peak_memory
from genvlm.studies.bench.models import check_close
from genvlm.studies.bench.report import Result, Row, memory_row, time_row
from genvlm.studies.bench.timing import Settings, ratio_of_medians, time_interleaved

_HIDDEN, _TOKENS, _SIZES = 256, 4096, {10_000: 6.0, 65_536: 10.0}
_QUICK_HIDDEN, _QUICK_TOKENS, _QUICK_SIZES = 16, 64, {100: 6.0, 200: 10.0}
_METHOD = (
    "Mean cross-entropy of a linear head and its gradients for input and weight, in float32. "
    "genvlm: `TokenHead`, whose logits exist in pieces and are computed again for the gradients. "
    "Plain: `linear`, then `cross_entropy`. Loss and gradients were equal before anything was "
    "timed. Memory: highest resident size during one forward and backward pass minus the size "
    "before, in a fresh process in which weight, input and their gradients exist already."
)


def run(settings: Settings) -> Result:
    """Time and memory at two sizes of the vocabulary. Raises EvaluationError: answers differ."""
    torch.set_num_threads(settings.threads)
    hidden, tokens, sizes = (
        (_QUICK_HIDDEN, _QUICK_TOKENS, _QUICK_SIZES)
        if settings.quick
        else (_HIDDEN, _TOKENS, _SIZES)
    )
    rows: list[Row] = []
    for vocab_size, bar in sizes.items():
        settings.say(f"vocabulary {vocab_size}")
        rows += _rows(hidden, tokens, vocab_size, bar, settings)
    return Result(
        bench="loss",
        shape=f"{tokens} tokens, hidden_size {hidden}",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts={},
    )


def chunked_loss(
    head: TokenHead, hidden: Float[Tensor, "tokens hidden"], targets: Int[Tensor, " tokens"]
) -> Tensor:
    """Mean cross-entropy by genvlm's head."""
    return -head(hidden, targets).log_prob.mean()


def plain_loss(
    head: TokenHead, hidden: Float[Tensor, "tokens hidden"], targets: Int[Tensor, " tokens"]
) -> Tensor:
    """Mean cross-entropy over all logits at once."""
    return F.cross_entropy(F.linear(hidden, head.proj.weight), targets)


def prepare(chunked: bool, num_hidden: int, num_tokens: int, vocab_size: int) -> Callable[[], None]:
    """For a fresh process: forward and backward."""
    head, hidden, targets = _inputs(num_hidden, num_tokens, vocab_size)
    loss = chunked_loss if chunked else plain_loss
    for leaf in (head.proj.weight, hidden):
        leaf.grad = torch.zeros_like(leaf)
    loss(head, hidden[:2], targets[:2]).backward()
    return lambda: loss(head, hidden, targets).backward()


def _rows(
    num_hidden: int, num_tokens: int, vocab_size: int, bar: float, settings: Settings
) -> list[Row]:
    head, hidden, targets = _inputs(num_hidden, num_tokens, vocab_size)

    def step(loss: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        value = loss(head, hidden, targets)
        return (value.detach(), *torch.autograd.grad(value, (hidden, head.proj.weight)))

    names = ("loss", "gradient of the input", "gradient of the weight")
    for name, ours, plain in zip(names, step(chunked_loss), step(plain_loss), strict=True):
        scale = float(plain.abs().max())
        check_close(name, ours / scale, plain / scale, 1e-4)
    seconds = time_interleaved(
        {"ours": lambda: step(chunked_loss), "plain": lambda: step(plain_loss)}, settings.num
    )
    ours_peak, plain_peak = (
        peak_memory(prepare, chunked, num_hidden, num_tokens, vocab_size, threads=settings.threads)
        for chunked in (True, False)
    )
    name = f"V {vocab_size}"
    mine, plain = seconds["ours"], seconds["plain"]
    return [
        memory_row(f"memory, {name}", "plain", ours_peak, plain_peak, settings, bar=bar),
        time_row(
            f"time, {name}", "plain", float(np.median(mine)), float(np.median(plain)),
            ratio_of_medians(plain, mine), settings, bar=0.9, bar_on="low",
            note="loss and gradients equal",
        ),
    ]  # fmt: skip


def _inputs(num_hidden: int, num_tokens: int, vocab_size: int) -> tuple[TokenHead, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = TokenHead(num_hidden, vocab_size)
    with torch.no_grad():
        head.proj.weight.normal_(std=0.02, generator=generator)
    hidden = torch.randn(num_tokens, num_hidden, generator=generator).requires_grad_()
    return head, hidden, torch.randint(vocab_size, (num_tokens,), generator=generator)

"""`genvlm bench score-text`: log p(text | image) of many captions, against transformers."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Codes, Likelihood
from genvlm.studies.bench.memory import peak_memory
from genvlm.studies.bench.models import (
    Shape,
    Twins,
    build_twins,
    check_close,
    load_ours,
    load_theirs,
    random_codes,
    random_texts,
)
from genvlm.studies.bench.report import Result, Row, memory_row, time_row
from genvlm.studies.bench.timing import (
    Settings,
    name_of_fastest,
    ratio_of_medians,
    time_interleaved,
)

SHAPE = Shape(
    hidden_size=384, num_layers=6, num_heads=6, intermediate_size=1024, context_length=320,
    num_words=4096, codebook_size=4096,
)  # fmt: skip
QUICK = Shape(
    hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128, context_length=64,
    num_words=64, codebook_size=64, grid_side=4,
)  # fmt: skip
# Of sums over a dozen or 256 float32 log-probabilities from two implementations.
TOLERANCE = 2e-3
_PIECES = 12
_METHOD = (
    "Totals of all captions of one picture in float32, normalised over what the text state allows; "
    "equal before anything was timed. genvlm: `Likelihood.score_text_given_image`, tokenization "
    "included. Naive: transformers reads the picture anew for each caption, one by one or in "
    "batches of 20, the faster of both, with the logits of the caption alone (`logits_to_keep`). "
    "Repeated cache: transformers reads the picture once and "
    "`DynamicCache.batch_repeat_interleave` repeats its keys and values for the captions. Memory: "
    "highest resident size while all captions are scored, minus the size before, in a fresh "
    "process that has loaded the one model it needs and scored one caption."
)


def run(settings: Settings) -> Result:
    """Time and memory. Raises EvaluationError: the scores differ."""
    torch.set_num_threads(settings.threads)
    shape, num = (QUICK, 5) if settings.quick else (SHAPE, 100)
    codes, texts = random_codes(shape), random_texts(shape, num, _PIECES)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        settings.say("building the model twice")
        twins = build_twins(shape, Path(folder))
        image, captions = foreign_inputs(twins, codes, texts)
        rows = _times(twins, codes, texts, image, captions, settings)
        settings.say("memory")
        ours, theirs = (
            peak_memory(prepare, Path(folder), *inputs, threads=settings.threads)
            for prepare, inputs in (
                (prepare_ours, (codes, texts)), (prepare_repeated, (image, captions)),
            )
        )  # fmt: skip
    return Result(
        bench="score-text",
        shape=f"{shape}; {num} captions of {_PIECES} tokens",
        method=_METHOD,
        settings=settings,
        rows=[*rows, memory_row("memory", "repeated cache", ours, theirs, settings, bar=4.0)],
        facts={},
    )


def score_ours(ours: PretrainedModel, codes: Codes, texts: Sequence[str]) -> Tensor:
    """log p of each text, by genvlm."""
    scored = Likelihood(ours).score_text_given_image([(codes, text) for text in texts])
    return torch.tensor([s.total for s in scored], dtype=torch.float64)


def score_naively(
    theirs: Any, image: Int[Tensor, " prefix"], captions: Int[Tensor, "texts tokens"], batch: int
) -> Float[Tensor, " texts"]:
    """log p of each caption, by transformers: the image anew in every row."""
    totals = []
    for part in captions.split(batch):
        ids = torch.cat([image.expand(len(part), -1), part[:, :-1]], 1)
        logits = theirs(input_ids=ids, logits_to_keep=part.shape[1]).logits
        totals.append(_totals(theirs, logits, part))
    return torch.cat(totals)


def score_repeated(
    theirs: Any, image: Int[Tensor, " prefix"], captions: Int[Tensor, "texts tokens"]
) -> Float[Tensor, " texts"]:
    """log p of each caption, by transformers: behind a cache that is repeated for all of them."""
    from transformers import DynamicCache

    cache = DynamicCache(config=theirs.config)
    first = theirs(input_ids=image[None], cache=cache, use_cache=True, logits_to_keep=1).logits
    cache.batch_repeat_interleave(len(captions))
    rest = theirs(input_ids=captions[:, :-1], cache=cache, use_cache=True).logits
    logits = torch.cat([first.expand(len(captions), -1, -1), rest], 1)
    return _totals(theirs, logits, captions)


def prepare_ours(folder: Path, codes: Codes, texts: Sequence[str]) -> Callable[[], object]:
    """For a fresh process."""
    ours = load_ours(folder)
    score_ours(ours, codes, texts[:1])
    return lambda: score_ours(ours, codes, texts)


@torch.no_grad()
def prepare_repeated(folder: Path, image: Tensor, captions: Tensor) -> Callable[[], object]:
    """For a fresh process."""
    theirs = load_theirs(folder)
    score_repeated(theirs, image, captions[:1])
    return torch.no_grad()(lambda: score_repeated(theirs, image, captions))


def _times(
    twins: Twins,
    codes: Codes,
    texts: Sequence[str],
    image: Tensor,
    captions: Tensor,
    settings: Settings,
) -> list[Row]:
    sizes = (1, min(20, len(texts)))
    naive = {f"{n} at a time": _naive(twins, image, captions, n) for n in sizes}
    tasks: dict[str, Callable[[], object]] = {
        "ours": lambda: score_ours(twins.ours, codes, texts),
        "repeated cache": lambda: score_repeated(twins.theirs, image, captions),
    }
    scores = score_ours(twins.ours, codes, texts)
    differ = check_close(
        "log p(text | image)", scores, score_repeated(twins.theirs, image, captions), TOLERANCE
    )
    settings.say("naive batch sizes")
    fastest = name_of_fastest(naive)
    check_close("naive log p(text | image)", scores, naive[fastest](), TOLERANCE)
    settings.say("time")
    tasks[f"naive, {fastest}"] = naive[fastest]
    seconds = time_interleaved(tasks, settings.num)
    mine = seconds.pop("ours")
    return [
        time_row(
            "time", against, float(np.median(mine)), float(np.median(other)),
            ratio_of_medians(other, mine), settings,
            bar=12.0 if against.startswith("naive") else 1.25,
            note=f"totals equal within {differ:.1g} nats",
        )
        for against, other in seconds.items()
    ]  # fmt: skip


def _naive(twins: Twins, image: Tensor, captions: Tensor, batch: int) -> Callable[[], Tensor]:
    return lambda: score_naively(twins.theirs, image, captions, batch)


def _totals(theirs: Any, logits: Tensor, targets: Tensor) -> Tensor:
    """Sums over targets. transformers masks codes; BOS, PAD and EOI are no text either."""
    names = theirs.config.vocabulary_map
    logits[..., [names[n] for n in ("<s>", "<pad>", "<eoss>")]] = -torch.inf
    log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return log_probs.double().sum(1)


def foreign_inputs(twins: Twins, codes: Codes, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """`BOS BOI codes EOI` and `text EOS` in transformers' ids."""
    v, tokenizer = twins.ours.vocabulary, twins.ours.text_tokenizer
    image = [v.bos, v.boi, *v.image_tokens(codes).flatten().tolist(), v.eoi]
    captions = [[*v.text_tokens(tokenizer.encode(text)).tolist(), v.eos] for text in texts]
    return twins.foreign_ids[torch.tensor(image)], twins.foreign_ids[torch.tensor(captions)]

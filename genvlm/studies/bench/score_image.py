"""`genvlm bench score-image`: log p(image | text) of one picture under many class texts.

transformers masks the logits of image codes; to score pictures with it, its head is called on the
hidden states of its model, as its own `forward` does before it masks them.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Codes, Likelihood
from genvlm.scoring.rescoring import in_bfloat16, rescore_near_ties
from genvlm.studies.bench.models import (
    Twins,
    build_twins,
    check_close,
    check_equal,
    random_codes,
    random_texts,
)
from genvlm.studies.bench.report import Result, Row, time_row
from genvlm.studies.bench.score_text import QUICK, SHAPE, TOLERANCE
from genvlm.studies.bench.timing import (
    Settings,
    name_of_fastest,
    ratio_of_medians,
    time_interleaved,
)
from genvlm.training.objectives.next_token import bfloat16_supported

_PIECES = 4
_METHOD = (
    "Totals of one picture under all class texts, normalised over the image codes; equal before "
    "anything was timed. genvlm: `Likelihood.score_image_given_text`, tokenization included. "
    "transformers: its model in batches of 20 or all at once, the faster of both, its head on the "
    "positions of the image, softmax over the codes. bfloat16, where the processor computes in it: "
    "genvlm scores all classes in bfloat16 and in float32 those that could still win, judged by "
    "the largest error seen so far times 3; its best class must be that of float32."
)


def run(settings: Settings) -> Result:
    """Float32, and bfloat16 where there is some. Raises EvaluationError: answers differ."""
    torch.set_num_threads(settings.threads)
    shape, num = (QUICK, 5) if settings.quick else (SHAPE, 100)
    codes, texts = random_codes(shape), random_texts(shape, num, _PIECES)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        settings.say("building the model twice")
        twins = build_twins(shape, Path(folder))
        rows = _rows(twins, codes, texts, settings)
    return Result(
        bench="score-image",
        shape=f"{shape}; {num} classes of {_PIECES} tokens",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts={},
    )


def score_ours(ours: PretrainedModel, codes: Codes, texts: Sequence[str]) -> Tensor:
    """log p of the picture given each text, by genvlm."""
    scored = Likelihood(ours).score_image_given_text([(codes, text) for text in texts])
    return torch.tensor([s.total for s in scored], dtype=torch.float64)


def score_theirs(
    theirs: Any,
    ids: Int[Tensor, "texts tokens"],
    codes: range,
    num_codes: int,
    batch: int,
) -> Float[Tensor, " texts"]:
    """log p of the last `num_codes` ids of each row, by transformers; `codes` are its image ids."""
    totals = []
    for part in ids.split(batch):
        hidden = theirs.model(input_ids=part[:, :-1]).last_hidden_state[:, -num_codes:]
        logits = theirs.lm_head(hidden)[..., codes.start : codes.stop]
        targets = part[:, -num_codes:, None] - codes.start
        log_probs = logits.float().log_softmax(-1).gather(-1, targets)[..., 0]
        totals.append(log_probs.double().sum(1))
    return torch.cat(totals)


def score_with_rescoring(
    rough: PretrainedModel, exact: PretrainedModel, codes: Codes, texts: Sequence[str]
) -> tuple[Tensor, int]:
    """Scores of a fast model, those that could be the best replaced by an exact model's.

    Returns:
        The scores, and how many texts were scored again.
    """

    def exactly(chosen: Sequence[Sequence[int]]) -> list[np.ndarray]:
        return [score_ours(exact, codes, [texts[i] for i in chosen[0]]).numpy()]

    scores = score_ours(rough, codes, texts).numpy()[None]
    found = rescore_near_ties(scores, exactly)
    return torch.from_numpy(found.scores[0]), int(found.exact.sum())


def _rows(twins: Twins, codes: Codes, texts: Sequence[str], settings: Settings) -> list[Row]:
    ids, code_ids = foreign_inputs(twins, codes, texts)
    scores = score_ours(twins.ours, codes, texts)
    theirs = _theirs(twins.theirs, ids, code_ids, codes.size)
    fastest = name_of_fastest(theirs)
    differ = check_close("log p(image | text)", scores, theirs[fastest](), TOLERANCE)
    tasks: dict[str, Callable[[], object]] = {
        "ours": lambda: score_ours(twins.ours, codes, texts),
        "theirs": theirs[fastest],
    }
    row = {"name": "float32", "against": f"transformers float32, {fastest}"}
    notes = f"totals equal within {differ:.1g} nats"
    if not bfloat16_supported():
        settings.say("float32")
        seconds = time_interleaved(tasks, settings.num)
        missing = Row(
            name="bfloat16, near-ties in float32", against=row["against"], unit="s", bar=2.0,
            note="not measured here: this processor does not compute in bfloat16",
        )  # fmt: skip
        return [_row(row, seconds, "ours", "theirs", settings, 0.9, "low", notes), missing]
    return _with_bfloat16(twins, codes, texts, tasks, row, notes, scores, settings)


def _with_bfloat16(
    twins: Twins,
    codes: Codes,
    texts: Sequence[str],
    tasks: dict[str, Callable[[], object]],
    row: dict[str, str],
    notes: str,
    scores: Tensor,
    settings: Settings,
) -> list[Row]:
    rough = in_bfloat16(twins.ours)
    their_rough = copy.deepcopy(twins.theirs).bfloat16()
    ids, code_ids = foreign_inputs(twins, codes, texts)
    found, again = score_with_rescoring(rough, twins.ours, codes, texts)
    check_equal("the best classes of bfloat16 and float32", found.argmax(), scores.argmax())
    tasks["rescored"] = lambda: score_with_rescoring(rough, twins.ours, codes, texts)
    rivals = _theirs(their_rough, ids, code_ids, codes.size)
    fastest = name_of_fastest(rivals)
    tasks["their bfloat16"] = rivals[fastest]
    settings.say("float32 and bfloat16")
    seconds = time_interleaved(tasks, settings.num)
    name = "bfloat16, near-ties in float32"
    said = f"{again} of {len(texts)} scored again; the best class is that of float32"
    their_best = "equal" if int(rivals[fastest]().argmax()) == int(scores.argmax()) else "another"
    beside = {"name": name, "against": f"transformers bfloat16, {fastest}"}
    return [
        _row(row, seconds, "ours", "theirs", settings, 0.9, "low", notes),
        _row(row | {"name": name}, seconds, "rescored", "theirs", settings, 2.0, "ratio", said),
        _row(
            beside, seconds, "rescored", "their bfloat16", settings, None, "ratio",
            f"without rescoring there: its best class is {their_best}",
        ),
    ]  # fmt: skip


def _row(
    names: Mapping[str, str],
    seconds: Mapping[str, np.ndarray],
    ours: str,
    theirs: str,
    settings: Settings,
    bar: float | None,
    bar_on: Literal["ratio", "low"],
    note: str,
) -> Row:
    first, second = seconds[theirs], seconds[ours]
    return time_row(
        names["name"], names["against"], float(np.median(second)), float(np.median(first)),
        ratio_of_medians(first, second), settings, bar=bar, bar_on=bar_on, note=note,
    )  # fmt: skip


def _theirs(
    model: Any, ids: Tensor, code_ids: range, num_codes: int
) -> dict[str, Callable[[], Tensor]]:
    def scored(batch: int) -> Callable[[], Tensor]:
        return lambda: score_theirs(model, ids, code_ids, num_codes, batch)

    return {f"{batch} at a time": scored(batch) for batch in (min(20, len(ids)), len(ids))}


def foreign_inputs(twins: Twins, codes: Codes, texts: Sequence[str]) -> tuple[Tensor, range]:
    """`BOS text BOI codes` in transformers' ids, and its ids of all codes."""
    v, tokenizer = twins.ours.vocabulary, twins.ours.text_tokenizer
    image = v.image_tokens(codes).flatten().tolist()
    rows = [[v.bos, *v.text_tokens(tokenizer.encode(t)).tolist(), v.boi, *image] for t in texts]
    first = int(twins.foreign_ids[v.image_range.start])
    return twins.foreign_ids[torch.tensor(rows)], range(first, first + len(v.image_range))

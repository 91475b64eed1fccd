"""Three uses of a model of transformers from images and text to text: Llava, Chameleon and others.

log p(text | image), the probability of "Yes" to a question about a text, and answers in words.
Prompts are made as `foreign_prompts` says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import ConfigError, EvaluationError, TokenError
from genvlm.scoring.autoregressive import Reduction
from genvlm.scoring.foreign_prompts import (
    PLAIN_PROMPT,
    ContinuationReader,
    fitting_processor,
    read_prompt,
)
from genvlm.scoring.protocols import Answer, Grid, Question, ScorerInfo, Scores
from genvlm.scoring.transformers_folder import ForeignModel

VQASCORE_TEMPLATE = 'Does this figure show "{text}"? Please answer yes or no.'


class ForeignLikelihoodScorer:
    """Scorer by log p(text | image), in nats, of the text's tokens and the EOS behind them.

    The text is tokenized by itself. Where the tokenizer names no EOS, the end is not scored.

    Args:
        prompt: words between the image and the text, such as "Describe the image."; a model with a
            chat template takes them as the user's turn, and the text as the assistant's.
        reduction: `mean` divides by the number of scored tokens.
    """

    def __init__(
        self, foreign: ForeignModel, *, prompt: str = "", reduction: Reduction = "sum"
    ) -> None:
        self._foreign, self._prompt, self._reduction = foreign, prompt, reduction
        self._reader = ContinuationReader(foreign)
        eos = foreign.processor.tokenizer.eos_token_id
        self._end = [] if eos is None else [eos]
        self.info = ScorerInfo(
            name="log p(text | image)" + (" per token" if reduction == "mean" else ""),
            unit="nats",
            settings={
                "direction": "text_given_image",
                "prompt": prompt,
                "end": self._end,
                "reduction": reduction,
                **_settings(foreign),
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct image is read once, and every distinct pair scored once.

        Raises:
            TokenError: a text that does not fit, spells a control token, or has no token.
            EvaluationError: the model gives a text no finite log-probability.
        """
        token_ids = {text: self._tokens(grid, text) for grid in grids for text in grid.texts}
        by_image: dict[str, tuple[Grid, RGBImage, set[str]]] = {}
        for grid in grids:
            for image in grid.images:
                _, _, texts = by_image.setdefault(image_digest(image), (grid, image, set()))
                texts.update(grid.texts)
        totals: dict[tuple[str, str], float] = {}
        for key, (grid, image, texts) in by_image.items():
            inputs = read_prompt(self._foreign, [image], self._prompt)
            ordered = sorted(texts)
            for text in ordered:
                _check_length(self._foreign, grid, inputs, len(token_ids[text]), text)
            rows = self._reader.log_probs(inputs, [token_ids[text] for text in ordered])
            for text, row in zip(ordered, rows, strict=True):
                totals[key, text] = float(row.astype(np.float64).sum())
        return [self._scores(grid, totals, token_ids) for grid in grids]

    def _tokens(self, grid: Grid, text: str) -> list[int]:
        self._foreign.check_text(grid.item_id, text)
        tokens = _token_ids(self._foreign, text) + self._end
        if not tokens:
            raise TokenError(f"item {grid.item_id!r}: an empty text has nothing to score")
        return tokens

    def _scores(
        self,
        grid: Grid,
        totals: Mapping[tuple[str, str], float],
        token_ids: Mapping[str, Sequence[int]],
    ) -> Scores:
        shape = (len(grid.images), len(grid.texts))
        keys = [image_digest(image) for image in grid.images]
        values = np.array([[totals[k, t] for t in grid.texts] for k in keys]).reshape(shape)
        counts = np.array([[len(token_ids[t]) for t in grid.texts] for _ in keys], np.int64)
        counts = counts.reshape(shape)
        _check_finite(grid, values)
        return Scores(values / counts if self._reduction == "mean" else values, counts)


class ForeignPYesScorer:
    """Scorer by the probability of an answer to a question about the text (VQAScore, Lin 2024).

    P("Yes" | image, question) is the product over the tokens of "Yes", tokenized by itself and
    without an end; settings name them. No other spelling ("yes", "YES") counts.

    Args:
        template: the question, with one `{text}`.
        against: another answer, such as "No"; the value is then p(yes) / (p(yes) + p(against)).
    """

    def __init__(
        self,
        foreign: ForeignModel,
        *,
        template: str = VQASCORE_TEMPLATE,
        answer: str = "Yes",
        against: str | None = None,
    ) -> None:
        if template.count("{text}") != 1:
            raise ConfigError(f"the template {template!r} must hold {{text}} once")
        self._foreign, self._template = foreign, template
        self._reader = ContinuationReader(foreign)
        answers = [answer] if against is None else [answer, against]
        self._answers = [_token_ids(foreign, a) for a in answers]
        tokenizer = foreign.processor.tokenizer
        unknown = [a for a, ids in zip(answers, self._answers, strict=True) if not ids]
        if unknown or any(tokenizer.unk_token_id in ids for ids in self._answers):
            raise ConfigError(f"the model has no tokens for an answer of {answers}")
        self.info = ScorerInfo(
            name=f"P({answer})",
            unit="probability",
            settings={
                "template": template,
                "answers": answers,
                "answer_tokens": [tokenizer.convert_ids_to_tokens(ids) for ids in self._answers],
                **_settings(foreign),
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """One pass for each distinct pair. Raises as ForeignLikelihoodScorer."""
        found: dict[tuple[str, str], float] = {}
        results = []
        for grid in grids:
            keys = [image_digest(image) for image in grid.images]
            for key, image in zip(keys, grid.images, strict=True):
                for text in grid.texts:
                    if (key, text) not in found:
                        found[key, text] = self._probability(grid, image, text)
            values = np.array([[found[k, t] for t in grid.texts] for k in keys])
            _check_finite(grid, values)
            results.append(Scores(values.reshape(len(keys), len(grid.texts))))
        return results

    def _probability(self, grid: Grid, image: RGBImage, text: str) -> float:
        self._foreign.check_text(grid.item_id, text)
        inputs = read_prompt(self._foreign, [image], self._template.replace("{text}", text))
        _check_length(self._foreign, grid, inputs, max(map(len, self._answers)), text)
        rows = self._reader.log_probs(inputs, self._answers)
        logs = np.array([row.astype(np.float64).sum() for row in rows])
        return float(np.exp(logs[0] - (np.logaddexp(*logs) if len(logs) > 1 else 0)))


class ForeignAnswerer:
    """Answerer that always says the most probable token next.

    The sampling settings of the folder (temperature, penalties) are not followed; its ends are.
    """

    def __init__(self, foreign: ForeignModel) -> None:
        from transformers import GenerationConfig

        self._foreign = foreign
        tokenizer, theirs = foreign.processor.tokenizer, foreign.model.generation_config
        ends = tokenizer.eos_token_id if theirs.eos_token_id is None else theirs.eos_token_id
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        # What a call leaves unset, `generate` takes from the model: nothing but the ends is left.
        foreign.model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad)
        self.info = ScorerInfo(
            name="greedy answers",
            unit="arbitrary",
            settings={"decoding": "greedy", "ends": ends, **_settings(foreign)},
        )

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One after the other; an answer ends with EOS, its limit or the context.

        `failed`: the prompt leaves no room, spells a control token, or the model gives NaN.
        """
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        try:
            self._foreign.check_text(question.item_id, question.prompt)
        except TokenError:
            return Answer("", "failed")
        model = self._foreign.model
        inputs = read_prompt(self._foreign, question.images, question.prompt)
        length = inputs["input_ids"].shape[1]
        room = (self._foreign.text_context or length + question.max_new_tokens) - length
        if room < 1:
            return Answer("", "failed")
        with fitting_processor():
            said = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=min(room, question.max_new_tokens),
                output_logits=True,
                return_dict_in_generate=True,
            )
        if any(logits.isnan().any() for logits in said.logits):
            return Answer("", "failed")
        new = said.sequences[0, length:]
        text = self._foreign.processor.tokenizer.decode(
            new, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return Answer(text)


def _settings(foreign: ForeignModel) -> dict[str, object]:
    has_template = foreign.processor.chat_template is not None
    prompt_format: Any = "chat template" if has_template else PLAIN_PROMPT
    return {"prompt_format": prompt_format, **foreign.settings}


def _token_ids(foreign: ForeignModel, text: str) -> list[int]:
    tokenizer = foreign.processor.tokenizer
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _check_length(
    foreign: ForeignModel, grid: Grid, inputs: Mapping[str, torch.Tensor], num: int, text: str
) -> None:
    total, limit = inputs["input_ids"].shape[1] + num, foreign.text_context
    if limit is not None and total > limit:
        raise TokenError(
            f"item {grid.item_id!r}: the image and the text {text[:60]!r} make {total} tokens, "
            f"more than the {limit} that the model reads: shorten the text or leave the item out"
        )


def _check_finite(grid: Grid, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise EvaluationError(
            f"item {grid.item_id!r}: the model gives a text no finite log-probability: load it "
            "with dtype float32, or leave the item out"
        )

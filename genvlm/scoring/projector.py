"""Three uses of a projector onto a frozen language model: log p(text | image), P(yes), answers.

Prompts are texts with `{image}` where a picture stands. Per-token values are float32, totals
float64; log-probabilities are over all that the language model writes (of our own transformer, its
text pieces and the end).
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit
from torch.nn.utils.rnn import pad_sequence

from genvlm.config.projector import IMAGE_SLOT
from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError, TokenError
from genvlm.models.auxiliary.language_model import LanguageModel, Prefix
from genvlm.models.auxiliary.projector import ProjectorModel
from genvlm.scoring.autoregressive import Reduction
from genvlm.scoring.by_pair import score_pairs
from genvlm.scoring.p_yes import ANSWERS
from genvlm.scoring.protocols import Answer, Grid, Question, ScorerInfo, Scores
from genvlm.tokenization.document import Text
from genvlm.tokenization.image_slots import ImageSlot, Prompt, check_slots, parse_prompt

YES_TEMPLATE = IMAGE_SLOT + 'Does this figure show "{text}"? Please answer yes or no.'
# Tokens, prompt included, and logits that are held at once.
_TOKENS_PER_BATCH, _LOGITS_PER_BATCH = 8192, 2**24


class ProjectorLikelihoodScorer:
    """Scorer by log p(text | image), in nats, of the text's tokens and the end behind them.

    Args:
        prompt: what stands in front of the text, with one `{image}`; as in training by default.
        reduction: `mean` divides by the number of scored tokens.
    """

    def __init__(
        self, model: ProjectorModel, *, prompt: str | None = None, reduction: Reduction = "sum"
    ) -> None:
        prompt = model.prompt if prompt is None else prompt
        _check_template(prompt)
        self._model, self._prompt, self._reduction = model, parse_prompt(prompt), reduction
        self.info = ScorerInfo(
            name="log p(text | image)" + (" per token" if reduction == "mean" else ""),
            unit="nats",
            settings={
                "direction": "text_given_image",
                "prompt": prompt,
                "reduction": reduction,
                **_settings(model),
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct image is read once, and every distinct pair scored once.

        Raises:
            TokenError: a text is blank, does not fit, or spells a control token.
            EvaluationError: the model gives a text no finite log-probability.
        """
        tokens, language = cache(self._tokens), self._model.language.model

        def score(image: RGBImage, texts: Sequence[str]) -> list[tuple[float, int]]:
            read = self._model.read(self._prompt, self._model.project([image]))
            rows = score_behind(language, language.prefill(read), [tokens(t) for t in texts])
            return [(float(row.astype(np.float64).sum()), len(row)) for row in rows]

        found = score_pairs(tokens, grids, score, texts_at_once=None)
        if self._reduction == "sum":
            return found
        return [s._replace(values=s.values / s.num_tokens) for s in found]

    def _tokens(self, text: str) -> list[int]:
        """Of the text and the end."""
        row = self._model.lay_out(self._prompt, 1, text)
        return [i for i, learned in zip(row.token_ids, row.learned, strict=True) if learned]


class ProjectorPYesScorer:
    """Scorer by p(yes) / (p(yes) + p(no)) behind a question about the text.

    Either is the product over the answer's tokens, without an end. A model whose language model
    answers no questions says little by it.

    Args:
        template: the question, with one `{image}` and one `{text}`.
    """

    def __init__(
        self,
        model: ProjectorModel,
        *,
        template: str = YES_TEMPLATE,
        answers: tuple[str, str] = ANSWERS,
    ) -> None:
        _check_template(template)
        if template.count("{text}") != 1:
            raise ConfigError(f"the template {template!r} must hold {{text}} once")
        coder = model.language.coder
        self._model, self._template = model, template
        self._answers = [coder.encode(answer) for answer in answers]
        if any(coder.unknown in ids for ids in self._answers):
            raise ConfigError(f"the language model has no tokens for an answer of {list(answers)}")
        self.info = ScorerInfo(
            name=f"P({answers[0]})",
            unit="probability",
            settings={
                "template": template,
                "answers": list(answers),
                "answer_tokens": self._answers,
                **_settings(model),
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """One pass for each distinct pair. Raises as ProjectorLikelihoodScorer."""
        language = self._model.language.model

        def score(image: RGBImage, texts: Sequence[str]) -> list[tuple[float, int]]:
            vectors = self._model.project([image])
            values = []
            for text in texts:
                read = self._model.read(self._question(text), vectors)
                rows = score_behind(language, language.prefill(read), self._answers)
                yes, no = (row.astype(np.float64).sum() for row in rows)
                values.append((float(expit(yes - no)), 0))
            return values

        found = score_pairs(self._check, grids, score, texts_at_once=None)
        return [s._replace(num_tokens=None) for s in found]

    def _question(self, text: str) -> Prompt:
        return [
            Text(segment.text.replace("{text}", text)) if isinstance(segment, Text) else segment
            for segment in parse_prompt(self._template)
        ]

    def _check(self, text: str) -> None:
        """Raises TokenError: the question about a text and its answer do not fit."""
        read = len(self._model.lay_out(self._question(text), 1).token_ids)
        num_tokens = read + max(map(len, self._answers))
        context = self._model.language.model.context
        if context is not None and num_tokens > context:
            raise TokenError(
                f"the question about {text[:60]!r} and its answer make {num_tokens} tokens, and "
                f"the language model reads {context}: shorten the text"
            )


class ProjectorAnswerer:
    """Answerer that always says the most probable token next.

    A prompt may say where its pictures stand, `{image}` for each; else they stand in front of it.
    """

    def __init__(self, model: ProjectorModel) -> None:
        self._model = model
        self.info = ScorerInfo(
            name="greedy answers",
            unit="arbitrary",
            settings={"decoding": "greedy", **_settings(model)},
        )

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One after the other; an answer ends with the end, its limit or the context.

        `failed`: the prompt leaves no room, spells a control token, or the model gives NaN.

        Raises:
            TokenError: a prompt has slots, and not as many as there are pictures.
        """
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        prompt: Prompt = parse_prompt(question.prompt)
        if not any(isinstance(segment, ImageSlot) for segment in prompt):
            prompt = [*[ImageSlot()] * len(question.images), *prompt]
        check_slots(prompt, len(question.images))
        try:
            vectors = self._model.read(prompt, self._model.project(question.images))
        except TokenError:
            return Answer("", "failed")
        language = self._model.language
        context = language.model.context
        room = question.max_new_tokens if context is None else context - vectors.shape[1]
        if room < 1:
            return Answer("", "failed")
        room = min(room, question.max_new_tokens)
        said = continue_greedily(language.model, vectors, language.coder.end, room)
        return Answer("", "failed") if said is None else Answer(language.coder.decode(said))


@torch.no_grad()
def score_behind(
    language: LanguageModel, prefix: Prefix, rows: Sequence[Sequence[int]]
) -> list[Float[np.ndarray, " tokens"]]:
    """log p of every token of rows that each stand behind the prefix, in nats."""
    device, length = prefix.vectors.device, prefix.vectors.shape[1]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    longest = max(map(len, rows), default=1)
    size = min(
        _TOKENS_PER_BATCH // (length + longest),
        _LOGITS_PER_BATCH // (longest * prefix.logits.shape[1]),
    )
    scored: dict[int, np.ndarray] = {}
    for start in range(0, len(order), max(1, size)):
        part = order[start : start + max(1, size)]
        targets = pad_sequence([torch.tensor(rows[i]) for i in part], batch_first=True).to(device)
        logits = prefix.logits[:, None].expand(len(part), -1, -1)
        if targets.shape[1] > 1:
            read = language.behind(prefix, language.embed(targets[:, :-1]))
            logits = torch.cat([logits, read], 1)
        precise = logits if logits.dtype == torch.float64 else logits.float()
        log_probs = precise.log_softmax(-1).gather(-1, targets[..., None])[..., 0].cpu().numpy()
        scored |= {i: log_probs[k, : len(rows[i])] for k, i in enumerate(part)}
    return [scored[i] for i in range(len(rows))]


@torch.no_grad()
def continue_greedily(
    language: LanguageModel, vectors: Float[torch.Tensor, "1 prefix width"], end: int, room: int
) -> list[int] | None:
    """The most probable tokens one after the other, without the end; None: the model gives NaN."""
    prefix = language.prefill(vectors)
    said: list[int] = []
    logits = prefix.logits[0]
    while not logits.isnan().any():
        token = int(logits.argmax())
        if token == end:
            return said
        said.append(token)
        if len(said) == room:
            return said
        embedded = language.embed(torch.tensor([said], device=vectors.device))
        logits = language.behind(prefix, embedded)[0, -1]
    return None


def _settings(model: ProjectorModel) -> dict[str, object]:
    return {
        "kind": "projector",
        "preprocessing": "fit to a white square",
        "dtype": str(model.dtype),
        "model": model.fingerprint,
    }


def _check_template(template: str) -> None:
    """Raises ConfigError: a scorer shows one picture, and the prompt shows none or several."""
    if not template.count(IMAGE_SLOT):
        raise ConfigError(
            f"the prompt {template!r} has no image slot: write {IMAGE_SLOT} where the picture "
            "stands"
        )
    if template.count(IMAGE_SLOT) > 1:
        raise ConfigError(
            f"the prompt {template!r} has {template.count(IMAGE_SLOT)} image slots, and one "
            f"picture is scored at a time: write {IMAGE_SLOT} once"
        )

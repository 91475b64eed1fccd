"""Three uses of a projector onto a frozen language model: log p(text | image), P(yes), answers.

Prompts are texts with `{image}` where a picture stands. Per-token values are float32, totals
float64; log-probabilities are over all that the language model writes (of our own transformer, its
text pieces and the end).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit
from torch.nn.utils.rnn import pad_sequence

from genvlm.config.projector import IMAGE_SLOT
from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import ConfigError, EvaluationError, TokenError
from genvlm.models.auxiliary.language_model import LanguageModel, Prefix
from genvlm.models.auxiliary.projector import ProjectorModel
from genvlm.scoring.autoregressive import Reduction
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
        token_ids = {text: self._tokens(grid, text) for grid in grids for text in grid.texts}
        asked: dict[str, tuple[RGBImage, set[str]]] = {}
        for grid in grids:
            for image in grid.images:
                asked.setdefault(image_digest(image), (image, set()))[1].update(grid.texts)
        totals: dict[tuple[str, str], float] = {}
        language = self._model.language.model
        for key, (image, texts) in asked.items():
            ordered = sorted(texts)
            vectors = self._model.read(self._prompt, self._model.project([image]))
            rows = [token_ids[text] for text in ordered]
            for text, row in zip(
                ordered, score_behind(language, language.prefill(vectors), rows), strict=True
            ):
                totals[key, text] = float(row.astype(np.float64).sum())
        return [self._scores(grid, totals, token_ids) for grid in grids]

    def _tokens(self, grid: Grid, text: str) -> list[int]:
        """Of the text and the end."""
        try:
            row = self._model.lay_out(self._prompt, 1, text)
        except TokenError as error:
            raise TokenError(f"item {grid.item_id!r}: {error}") from None
        return [i for i, learned in zip(row.token_ids, row.learned, strict=True) if learned]

    def _scores(
        self,
        grid: Grid,
        totals: dict[tuple[str, str], float],
        token_ids: dict[str, list[int]],
    ) -> Scores:
        shape = (len(grid.images), len(grid.texts))
        keys = [image_digest(image) for image in grid.images]
        values = np.array([totals[k, t] for k in keys for t in grid.texts]).reshape(shape)
        counts = np.tile([len(token_ids[t]) for t in grid.texts], (shape[0], 1)).astype(np.int64)
        _check_finite(grid, values)
        return Scores(values / counts if self._reduction == "mean" else values, counts)


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
        vectors: dict[str, torch.Tensor] = {}
        found: dict[tuple[str, str], float] = {}
        results = []
        for grid in grids:
            keys = [image_digest(image) for image in grid.images]
            for key, image in zip(keys, grid.images, strict=True):
                if key not in vectors:
                    vectors[key] = self._model.project([image])
                for text in grid.texts:
                    if (key, text) not in found:
                        found[key, text] = self._probability(grid, vectors[key], text)
            values = np.array([found[k, t] for k in keys for t in grid.texts])
            values = values.reshape(len(keys), len(grid.texts))
            _check_finite(grid, values)
            results.append(Scores(values))
        return results

    def _probability(self, grid: Grid, vectors: torch.Tensor, text: str) -> float:
        prompt = [
            Text(segment.text.replace("{text}", text)) if isinstance(segment, Text) else segment
            for segment in parse_prompt(self._template)
        ]
        language = self._model.language.model
        try:
            read = self._model.read(prompt, vectors)
            _check_room(language, read.shape[1] + max(map(len, self._answers)), text)
        except TokenError as error:
            raise TokenError(f"item {grid.item_id!r}: {error}") from None
        rows = score_behind(language, language.prefill(read), self._answers)
        yes, no = (float(row.astype(np.float64).sum()) for row in rows)
        return float(expit(yes - no))


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
        "dtype": str(model.projector.linear_1.weight.dtype),
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


def _check_room(language: LanguageModel, num_tokens: int, text: str) -> None:
    if language.context is not None and num_tokens > language.context:
        raise TokenError(
            f"the question about {text[:60]!r} and its answer make {num_tokens} tokens, and the "
            f"language model reads {language.context}: shorten the text"
        )


def _check_finite(grid: Grid, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise EvaluationError(
            f"item {grid.item_id!r}: the model gives a text no finite log-probability: its "
            "projector or its language model is damaged"
        )

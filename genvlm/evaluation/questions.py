"""Benchmarks that ask in words: questions, the parser of answers, and answers without a picture."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from genvlm.data.images import RGBImage
from genvlm.errors import DataError, EvaluationError, TokenError
from genvlm.evaluation.benchmark import (
    Progress,
    check_any,
    derange,
    failed_record,
    shared_fields,
)
from genvlm.evaluation.cards import Card
from genvlm.evaluation.control_names import BLIND, SHUFFLED
from genvlm.evaluation.measures import Target
from genvlm.evaluation.records import AnswerStatus, ItemRecord, Said, Status
from genvlm.scoring.protocols import Answerer, Question, ScorerInfo

Given = Mapping[str, str | None]
"""Parsed answers by question."""


@dataclass(frozen=True, kw_only=True)
class AskedItem:
    """One or more questions about the same pictures, judged together."""

    id: str
    questions: Mapping[str, Question]
    """By their id within the item: an order of options, a proposition, or ""."""
    group: str
    """Cluster of items that share a picture or a prompt."""
    target: Target
    """What is right, in the form that the rule says (`build_rule`)."""
    tags: tuple[str, ...] = ()


class Parsed(NamedTuple):
    """What an answer was taken to say."""

    answer: str | None
    """None where it could not be read."""
    status: AnswerStatus = "answered"


@dataclass(frozen=True)
class Parser:
    """How raw answers are read."""

    name: str
    """Named in every log line."""
    parse: Callable[[str, AskedItem, str], Parsed]
    """From the raw text, the item, and the question's id."""


@dataclass(frozen=True, kw_only=True)
class QuestionBenchmark:
    """Items with one decision rule, the card that says what they mean, and a parser."""

    name: str
    items: tuple[AskedItem, ...]
    card: Card
    version: str
    parser: Parser
    controls: Mapping[str, Mapping[str, Given]] = field(default_factory=dict)
    """Answers that need no picture, by control and item id."""
    predictions_only: str = ""
    """Why no model can be asked, where only answers given elsewhere can be judged."""

    def __post_init__(self) -> None:
        ids = {item.id for item in self.items}
        if not self.items or len(ids) != len(self.items):
            raise EvaluationError(
                f"benchmark {self.name}: {len(self.items)} items with {len(ids)} different ids; "
                "there must be at least one, and each id once"
            )


def keep_named(benchmark: QuestionBenchmark, ids: Iterable[str], what: str) -> QuestionBenchmark:
    """The items of these ids alone; the version tells how many and, by a hash, which.

    Args:
        what: what an id names ("images"), for the version and the error.

    Raises:
        EvaluationError: an id that the benchmark does not have.
    """
    named = set(ids)
    unknown = sorted(named - {item.id for item in benchmark.items})
    if unknown:
        raise EvaluationError(
            f"{len(unknown)} predictions are of {what} that {benchmark.name} "
            f"({benchmark.version}) does not have, such as {unknown[0]!r}: leave them out"
        )
    digest = hashlib.sha256("\n".join(sorted(named)).encode()).hexdigest()[:8]
    return replace(
        benchmark,
        items=tuple(item for item in benchmark.items if item.id in named),
        version=f"{benchmark.version}+{what}={len(named)}:{digest}",
    )


def run_questions(
    benchmark: QuestionBenchmark,
    answerer: Answerer,
    progress: Progress | None = None,
    *,
    shuffled: bool = True,
    blind: bool = True,
) -> list[ItemRecord]:
    """Ask every question of every item, again without the picture, and with another one.

    An item whose picture cannot be read, or whose prompt does not fit, is recorded as failed with
    the reason; it counts neither as right nor as wrong.

    Args:
        shuffled: also ask about the pictures of an item of another group.
        blind: also ask without any picture.

    Raises:
        EvaluationError: every item failed, or the benchmark only judges predictions.
    """
    if benchmark.predictions_only:
        raise EvaluationError(
            f"{benchmark.name} cannot be asked of a model: {benchmark.predictions_only}"
        )
    items = benchmark.items
    partners = derange([item.group for item in items]) if shuffled else None
    records = []
    for number, item in enumerate(items):
        try:
            said = _ask(benchmark, item, answerer)
            controls: dict[str, Given] = {
                name: given[item.id] for name, given in benchmark.controls.items()
            }
            if blind:
                controls[BLIND] = _parsed(_ask(benchmark, _about(item, ()), answerer))
            if partners is not None:
                others = (items[partners[number]], *items)
                controls[SHUFFLED] = _ask_about_another(benchmark, item, others, answerer)
        except (DataError, TokenError) as error:
            records.append(failed_record(benchmark, item, answerer.info, str(error)))
        else:
            records.append(answered_record(benchmark, item, answerer.info, said, controls))
        if progress is not None:
            progress(len(records), len(items))
    check_any(records)
    return records


def answered_record(
    benchmark: QuestionBenchmark,
    item: AskedItem,
    info: ScorerInfo,
    said: Sequence[Said],
    controls: Mapping[str, Given],
) -> ItemRecord:
    """The log line of one item; the worst of its answers is its status."""
    statuses = {one.status for one in said}
    status: Status = "answered"
    for worst in ("unparseable", "refused"):
        if worst in statuses:
            status = worst
            break
    evidence = {one.question: one.parsed for one in said}
    return ItemRecord(
        **shared_fields(benchmark, item, info),
        status=status,
        answers=tuple(said),
        credit=benchmark.card.decision.credit(evidence, item.target, item.id),
        controls={name: dict(given) for name, given in controls.items()},
    )


def read_answer(
    benchmark: QuestionBenchmark,
    item: AskedItem,
    question: str,
    raw: str,
    *,
    prompt: str | None,
) -> Said:
    """One raw answer, parsed by the benchmark's rule."""
    parsed = benchmark.parser.parse(raw, item, question)
    return Said(
        question=question,
        prompt=prompt,
        raw=raw,
        parsed=parsed.answer,
        parse_rule=benchmark.parser.name,
        status=parsed.status,
    )


def _ask(benchmark: QuestionBenchmark, item: AskedItem, answerer: Answerer) -> list[Said]:
    """Raises DataError: the answerer could not answer one of them."""
    said = []
    for (key, question), answer in zip(
        item.questions.items(), answerer.answer(list(item.questions.values())), strict=True
    ):
        if answer.status == "failed":
            raise DataError(f"the question {key!r} could not be answered: {answer.raw_text}")
        one = read_answer(benchmark, item, key, answer.raw_text, prompt=question.prompt)
        said.append(replace(one, status="refused") if answer.status == "refused" else one)
    return said


def _ask_about_another(
    benchmark: QuestionBenchmark, item: AskedItem, others: Sequence[AskedItem], answerer: Answerer
) -> Given:
    """With the pictures of the first other item of another group whose pictures can be read."""
    for other in others:
        if other.group != item.group:
            images = next(iter(other.questions.values())).images
            try:
                return _parsed(_ask(benchmark, _about(item, images), answerer))
            except (DataError, TokenError):
                continue
    return dict.fromkeys(item.questions)


def _about(item: AskedItem, images: Sequence[RGBImage]) -> AskedItem:
    """The same questions about other pictures, or about none."""
    return replace(
        item, questions={key: replace(q, images=images) for key, q in item.questions.items()}
    )


def _parsed(said: Sequence[Said]) -> Given:
    return {one.question: one.parsed for one in said}

"""Whether a log is one run, and whole: what was answered, refused, unreadable, failed."""

import re
from collections.abc import Sequence

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.records import ItemRecord


def check_one_run(records: Sequence[ItemRecord], card: Card) -> None:
    """Raises EvaluationError: the records do not belong together, or not to this card."""
    if not records:
        raise EvaluationError(f"the log holds no item of {card.name}: run the evaluation again")
    first = records[0]
    seen: set[str] = set()
    for record in records:
        if record.benchmark != card.name or record.rule != card.rule:
            raise EvaluationError(
                f"item {record.id!r} is of the benchmark {record.benchmark!r} (rule "
                f"{record.rule}), not of {card.name!r} (rule {card.rule})"
            )
        if record.version.partition("+")[0] != card.version:
            raise EvaluationError(
                f"item {record.id!r} is of version {record.version} of {card.name}, the card is of "
                f"version {card.version}: run the evaluation again"
            )
        run = (record.fingerprint, record.version, record.num_items)
        if run != (first.fingerprint, first.version, first.num_items):
            raise EvaluationError(
                f"items {first.id!r} and {record.id!r} come from different runs (scorer, version "
                "or number of items differ): summarize one log at a time"
            )
        if record.id in seen:
            raise EvaluationError(f"item {record.id!r} stands twice in the log: remove one")
        seen.add(record.id)


def count_coverage(records: Sequence[ItemRecord]) -> dict[str, int]:
    """Items expected, and how many there are of each status."""
    statuses = ("answered", "refused", "unparseable", "failed")
    counts = {status: sum(r.status == status for r in records) for status in statuses}
    return {"expected": records[0].num_items, **counts}


def unanswered_flags(records: Sequence[ItemRecord]) -> list[str]:
    """What was refused, unreadable or failed: how many, and one by name."""
    flags = []
    for status in ("refused", "unparseable", "failed"):
        ids = [r.id for r in records if r.status == status]
        if ids:
            problem = next(r.problem for r in records if r.id == ids[0])
            reason = f" ({problem})" if problem else ""
            flags.append(f"{len(ids)} items {status}, such as {ids[0]!r}{reason}")
    return flags


def unsaid_flags(records: Sequence[ItemRecord]) -> list[str]:
    """Answers to yes-no questions that say neither, where the official rule reads them all the same
    (POPE): they can be right without an answer."""
    ids = [
        r.id
        for r in records
        if r.rule == "yes-no"
        and any(
            one.parsed is not None and not re.search(r"\b(yes|no|not)\b", one.raw, re.IGNORECASE)
            for one in r.answers
        )
    ]
    if not ids:
        return []
    return [
        f"{len(ids)} answers say neither yes nor no, such as that of {ids[0]!r}, and are read all "
        "the same (official rule)"
    ]

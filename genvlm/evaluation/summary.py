"""From a log to its result: metrics with intervals, categories, controls, gain, flags.

Everything is recomputed from the raw scores in the log; no model and no picture is needed.
"""

from collections.abc import Sequence

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card, with_chance
from genvlm.evaluation.control_names import RANDOM
from genvlm.evaluation.coverage import (
    check_one_run,
    count_coverage,
    unanswered_flags,
    unsaid_flags,
)
from genvlm.evaluation.flags import order_flags, result_flags
from genvlm.evaluation.measures import Judged, Parts
from genvlm.evaluation.numbers import SCORER, Numbers
from genvlm.evaluation.records import SCHEMA, ItemRecord
from genvlm.evaluation.results import Controls, GainTable, Summary, Table


def summarize(records: Sequence[ItemRecord], card: Card, *, num_truncated: int = 0) -> Summary:
    """Recompute a result from its log.

    Args:
        num_truncated: lines of the log that were cut short (`read_records`).

    Raises:
        EvaluationError: no record, records of another benchmark or of several runs, doubled ids.
    """
    check_one_run(records, card)
    coverage = count_coverage(records)
    flags = [f"the log ends in {num_truncated} line that was cut short"] if num_truncated else []
    flags += unanswered_flags(records) + unsaid_flags(records)
    left_out = {name: reason for r in records for name, reason in r.left_out.items()}
    flags += [f"the control {name!r} was left out: {why}" for name, why in left_out.items()]
    counted = [r for r in records if r.status != "failed"]
    card = with_chance(card, [len(r.scores[0]) for r in counted if r.scores])
    parts = _parts_by_scorer(counted, card, flags)
    tags = list(dict.fromkeys(tag for r in records for tag in r.tags))
    numbers = Numbers(card, counted, parts, tags)
    tables = {
        name: Table(numbers.metrics(name), {tag: numbers.metrics(name, tag) for tag in tags})
        for name in (SCORER, RANDOM, *(n for n in parts if n != SCORER))
    }
    scorer = tables.pop(SCORER)
    flags += order_flags(counted, card)
    flags += result_flags(numbers, counted, scorer.metrics, tables)
    return Summary(
        schema=SCHEMA,
        benchmark=card.name,
        version=records[0].version,
        status="complete" if coverage["answered"] == coverage["expected"] else "incomplete",
        coverage=coverage,
        metrics=scorer.metrics,
        categories=scorer.categories,
        controls=Controls(
            scores=tables,
            gain=GainTable(numbers.gains(), {tag: numbers.gains(tag) for tag in tags}),
        ),
        flags=tuple(flags),
        fingerprint=records[0].fingerprint,
        scorer=records[0].scorer,
    )


def _parts_by_scorer(
    counted: Sequence[ItemRecord], card: Card, flags: list[str]
) -> dict[str, Parts]:
    """Parts of the scorer and of every control."""
    controls = list(counted[0].controls) if counted else []
    for record in counted:
        if record.controls.keys() != set(controls):
            raise EvaluationError(
                f"item {record.id!r} has the controls {sorted(record.controls)}, others have "
                f"{sorted(controls)}: summarize one log at a time"
            )
    rule = card.decision
    ids, targets = [r.id for r in counted], [r.target for r in counted]
    evidence = {name: [r.evidence(name or None) for r in counted] for name in (SCORER, *controls)}
    own = zip(evidence[SCORER], targets, ids, strict=True)
    credits = [rule.credit(*item) for item in own]
    changed = [r.id for r, c in zip(counted, credits, strict=True) if c != r.credit]
    if changed:
        flags.append(
            f"{len(changed)} items carry a credit that their scores do not give, such as "
            f"{changed[0]!r}; the scores were used"
        )
    return {name: rule.parts(Judged(found, targets, ids)) for name, found in evidence.items()}

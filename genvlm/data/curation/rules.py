"""Rules in their order: each document that comes so far either passes, or is dropped with a reason.

A rule sees the documents that all rules before it let pass, in the order of the sources, and what
was measured of them. It gives back those that it drops, and why. No rule looks at another process
or at the clock, so that the same measures give the same answer.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

from genvlm.config.curation import (
    AspectRule,
    BalanceRule,
    BlankRule,
    BoilerplateRule,
    CaptionLengthRule,
    EvaluationPicturesRule,
    ExactDuplicatesRule,
    NearDuplicatesRule,
    RepeatedTextRule,
    Rule,
    Same,
    ScoreRule,
    ScriptRule,
    SharedCaptionRule,
    SizeRule,
)
from genvlm.data.curation.balance import balance
from genvlm.data.curation.captions import PATTERNS, plain, repeated_share, scripts_of, words_of
from genvlm.data.curation.looks import Alike, Look, LookIndex
from genvlm.data.curation.measures import Measures, PictureMeasures
from genvlm.errors import ConfigError

UNREADABLE = "unreadable"


class Drop(NamedTuple):
    """Why a document was dropped."""

    because: str
    like: str = ""
    """Of a duplicate: the id of the document that stays, or the name of the evaluation picture."""


Drops = dict[int, Drop]
"""By the number of the document."""


@dataclass(frozen=True, kw_only=True)
class Helpers:
    """What rules need beyond the measures."""

    scores: Callable[[ScoreRule, Sequence[int]], Sequence[float]]
    """Scores of documents (by number) by the rule's file or model."""
    evaluation_looks: Callable[[EvaluationPicturesRule], Iterable[tuple[str, Look]]]
    """Name and look of each picture of an evaluation."""


@dataclass(kw_only=True)
class RuleReport:
    """What one rule did."""

    name: str
    kind: str
    num_in: int
    drops: Drops
    notes: dict[str, Any] = field(default_factory=dict)
    """What else is to be known of it, as JSON."""


def apply_rules(
    rules: Sequence[Rule], measured: Sequence[Measures], helpers: Helpers
) -> list[RuleReport]:
    """A report of each rule, `unreadable` first. Raises DataError: a rule lacks what it needs."""
    unreadable = {n: Drop(m.error) for n, m in enumerate(measured) if m.picture is None}
    reports = [RuleReport(name=UNREADABLE, kind=UNREADABLE, num_in=len(measured), drops=unreadable)]
    alive = [n for n in range(len(measured)) if n not in unreadable]
    for rule in rules:
        name = rule.name or rule.kind
        report = RuleReport(name=name, kind=rule.kind, num_in=len(alive), drops={})
        report.drops = _drops(rule, alive, measured, helpers, report.notes)
        alive = [n for n in alive if n not in report.drops]
        reports.append(report)
    return reports


def _drops(
    rule: Rule,
    alive: Sequence[int],
    measured: Sequence[Measures],
    helpers: Helpers,
    notes: dict[str, Any],
) -> Drops:
    match rule:
        case SizeRule() | AspectRule() | BlankRule():
            return _each(alive, lambda n: _picture_fault(rule, _picture(measured[n])))
        case CaptionLengthRule() | RepeatedTextRule() | ScriptRule():
            return _each(alive, lambda n: _caption_fault(rule, measured[n].caption))
        case BoilerplateRule():
            return _boilerplate(rule, alive, measured)
        case SharedCaptionRule():
            return _shared_captions(rule, alive, measured)
        case ExactDuplicatesRule():
            return _exact_duplicates(rule, alive, measured)
        case NearDuplicatesRule():
            return _near_duplicates(rule, alive, measured)
        case EvaluationPicturesRule():
            return _evaluation_pictures(rule, alive, measured, helpers, notes)
        case ScoreRule():
            return _score(rule, alive, helpers, notes)
        case BalanceRule():
            return _balance(rule, alive, measured, notes)
        case _:
            assert_never(rule)


def _each(alive: Sequence[int], fault: Callable[[int], str]) -> Drops:
    found = ((n, fault(n)) for n in alive)
    return {n: Drop(because) for n, because in found if because}


def _picture_fault(rule: SizeRule | AspectRule | BlankRule, picture: PictureMeasures) -> str:
    sides = sorted((picture.width, picture.height))
    match rule:
        case SizeRule():
            too_large = rule.max_side is not None and sides[1] > rule.max_side
            fails = sides[0] < rule.min_side or too_large
            return f"{picture.width} x {picture.height}" if fails else ""
        case AspectRule():
            ratio = sides[1] / sides[0]
            return f"{ratio:.1f} to 1" if ratio > rule.max_ratio else ""
        case BlankRule():
            fails = picture.contrast < rule.min_contrast
            return f"contrast {picture.contrast}" if fails else ""


def _caption_fault(rule: CaptionLengthRule | RepeatedTextRule | ScriptRule, caption: str) -> str:
    match rule:
        case CaptionLengthRule():
            num_words = len(words_of(caption))
            if not rule.min_chars <= len(caption) <= rule.max_chars:
                return f"{len(caption)} characters"
            fits = rule.min_words <= num_words <= rule.max_words
            return "" if fits else f"{num_words} words"
        case RepeatedTextRule():
            share = repeated_share(words_of(caption), rule.ngram)
            return f"{100 * share:.0f} % repeated" if share > rule.max_share else ""
        case ScriptRule():
            letters = scripts_of(caption)
            foreign = {s: count for s, count in letters.items() if s not in rule.allowed}
            total = sum(letters.values())
            if total - sum(foreign.values()) >= rule.min_share * total:
                return ""
            return f"{max(sorted(foreign), key=lambda script: foreign[script])} letters"


def _boilerplate(
    rule: BoilerplateRule, alive: Sequence[int], measured: Sequence[Measures]
) -> Drops:
    patterns: dict[str, re.Pattern[str]] = {name: PATTERNS[name] for name in rule.patterns}
    for own in rule.own:
        try:
            patterns[own] = re.compile(own, re.IGNORECASE)
        except re.error as error:
            raise ConfigError(f"boilerplate: {own!r} is no regular expression ({error})") from None

    def fault(number: int) -> str:
        caption = measured[number].caption
        return next((name for name, pattern in patterns.items() if pattern.search(caption)), "")

    return _each(alive, fault)


def _shared_captions(
    rule: SharedCaptionRule, alive: Sequence[int], measured: Sequence[Measures]
) -> Drops:
    captions = {n: plain(measured[n].caption) for n in alive}
    counts = Counter(captions.values())
    return {
        n: Drop(f"{counts[caption]} pictures")
        for n, caption in captions.items()
        if counts[caption] > rule.max_pictures
    }


def _exact_duplicates(
    rule: ExactDuplicatesRule, alive: Sequence[int], measured: Sequence[Measures]
) -> Drops:
    first: dict[tuple[str, str], int] = {}
    drops: Drops = {}
    for n in alive:
        key = (_picture(measured[n]).digest, _caption_key(measured[n], rule.same))
        if key in first:
            drops[n] = Drop("equal pixels", measured[first[key]].id)
        else:
            first[key] = n
    return drops


def _near_duplicates(
    rule: NearDuplicatesRule, alive: Sequence[int], measured: Sequence[Measures]
) -> Drops:
    alike = Alike(
        max_distance=rule.max_distance, max_colour=rule.max_colour, mirrored=rule.mirrored
    )
    indices: dict[str, LookIndex] = defaultdict(lambda: LookIndex(alike))
    drops: Drops = {}
    for n in alive:
        look = _picture(measured[n]).look
        index = indices[_caption_key(measured[n], rule.same)]
        earlier = next(index.find(look), None)
        if earlier is None:
            index.add(n, look)
        else:
            drops[n] = Drop("looks the same", measured[earlier].id)
    return drops


def _evaluation_pictures(
    rule: EvaluationPicturesRule,
    alive: Sequence[int],
    measured: Sequence[Measures],
    helpers: Helpers,
    notes: dict[str, Any],
) -> Drops:
    index = LookIndex(
        Alike(max_distance=rule.max_distance, max_colour=rule.max_colour, mirrored=rule.mirrored)
    )
    names = []
    for number, (name, look) in enumerate(helpers.evaluation_looks(rule)):
        names.append(name)
        index.add(number, look)
    notes["evaluation_pictures"] = len(names)
    drops: Drops = {}
    for n in alive:
        found = next(index.find(_picture(measured[n]).look), None)
        if found is not None:
            drops[n] = Drop("looks like one of an evaluation", names[found])
    return drops


def _score(rule: ScoreRule, alive: Sequence[int], helpers: Helpers, notes: dict[str, Any]) -> Drops:
    scores = dict(zip(alive, helpers.scores(rule, alive), strict=True))
    if rule.min_score is not None:
        least = rule.min_score
        kept = {n for n in alive if scores[n] >= least}
    else:
        # Of equal scores the earlier document stays.
        ranked = sorted(alive, key=lambda n: (-scores[n], n))
        kept = set(ranked[: round((rule.keep or 0) * len(ranked))])
        notes["least_kept_score"] = min((scores[n] for n in kept), default=None)
    return {n: Drop(f"score {scores[n]:.4g}") for n in alive if n not in kept}


def _balance(
    rule: BalanceRule,
    alive: Sequence[int],
    measured: Sequence[Measures],
    notes: dict[str, Any],
) -> Drops:
    if not alive:
        return {}
    result = balance({measured[n].id: measured[n].caption for n in alive}, rule)
    frequent = sorted(result.counts, key=lambda entry: (-result.counts[entry], entry))[:20]
    notes["entries"] = len(result.counts)
    notes["most_frequent"] = {
        entry: {"in": result.counts[entry], "kept": result.kept_counts[entry]} for entry in frequent
    }
    dropped = result.dropped
    return {n: Drop(dropped[measured[n].id]) for n in alive if measured[n].id in dropped}


def _caption_key(measures: Measures, same: Same) -> str:
    return plain(measures.caption) if same == "picture_and_caption" else ""


def _picture(measures: Measures) -> PictureMeasures:
    if measures.picture is None:
        raise ValueError(f"{measures.id} has no picture")
    return measures.picture

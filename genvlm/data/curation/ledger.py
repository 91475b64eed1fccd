"""The account of a curation: how many came in, what dropped each of the others, examples of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genvlm.config.curation import CurationConfig
from genvlm.config.schema import to_plain
from genvlm.data.curation.captions import repeated_share, scripts_of, words_of
from genvlm.data.curation.measures import Measures
from genvlm.data.curation.rules import RuleReport
from genvlm.data.hashed import hash_rank
from genvlm.data.skipping import SkipBudget
from genvlm.nn.whole_files import write_whole

SCHEMA = 1


@dataclass(frozen=True)
class Decisions:
    """What became of each document."""

    measured: Sequence[Measures]
    reports: Sequence[RuleReport]

    @property
    def kept(self) -> list[int]:
        """Numbers of the documents that no rule dropped, in order."""
        dropped = {n for report in self.reports for n in report.drops}
        return [n for n in range(len(self.measured)) if n not in dropped]

    def examples(self, report: RuleReport, most: int) -> list[int]:
        """Some of what a rule dropped, by the hash of their ids."""
        return sorted(report.drops, key=lambda n: hash_rank(self.measured[n].id))[:most]

    def sample(self, most: int) -> list[int]:
        """Some of what is kept, by the hash of their ids."""
        return sorted(self.kept, key=lambda n: hash_rank(self.measured[n].id))[:most]


def measures_json(measures: Measures) -> dict[str, Any]:
    """What was measured, as it stands in ledgers and beside pictures."""
    words = words_of(measures.caption)
    caption = {
        "num_chars": len(measures.caption),
        "num_words": len(words),
        "repeated_pairs": round(repeated_share(words, 2), 4),
        "scripts": scripts_of(measures.caption),
    }
    row: dict[str, Any] = {"num_bytes": measures.num_bytes, **caption}
    if measures.picture is None:
        return row
    picture = measures.picture
    return row | {
        "width": picture.width,
        "height": picture.height,
        "contrast": picture.contrast,
        "hash": f"{picture.look.whole.hash:016x}",
    }


def write_lines(decisions: Decisions, path: Path) -> None:
    """One JSON line a document, in order: id, kept or the rule that dropped it, measures."""
    dropped = {n: (r.name, drop) for r in decisions.reports for n, drop in r.drops.items()}

    def lines() -> Iterator[str]:
        for number, measures in enumerate(decisions.measured):
            row: dict[str, Any] = {"id": measures.id, "kept": number not in dropped}
            if number in dropped:
                rule, drop = dropped[number]
                row |= {"rule": rule, "because": drop.because}
                row |= {"like": drop.like} if drop.like else {}
            row |= {"caption": measures.caption, "measures": measures_json(measures)}
            yield json.dumps(row, ensure_ascii=False) + "\n"

    write_whole(path, "".join(lines()))


def ledger_json(
    config: CurationConfig,
    decisions: Decisions,
    skips: SkipBudget,
    captions: Mapping[str, int] | None,
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The ledger as one object; counts add up: in = dropped by the rules + kept."""
    measured = decisions.measured
    num_unreadable = len(decisions.reports[0].drops)
    rules = [
        {
            "name": report.name,
            "kind": report.kind,
            "in": report.num_in,
            "dropped": len(report.drops),
            "notes": report.notes,
            "examples": [
                {"id": measured[n].id, "caption": measured[n].caption, **report.drops[n]._asdict()}
                for n in decisions.examples(report, config.examples)
            ],
        }
        for report in decisions.reports
    ]
    return {
        "schema": SCHEMA,
        "in": len(measured),
        "kept": len(decisions.kept),
        "skipped_by_readers": skips.num_skipped - num_unreadable,
        "rules": rules,
        "captions": captions,
        "shards": list(shards),
        "config": to_plain(config),
    }

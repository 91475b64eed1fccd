"""What a curation did, as a page to look at: every rule with examples of what it dropped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genvlm.config.curation import EvaluationPicturesRule
from genvlm.config.schema import dump_config
from genvlm.data.curation.curate import CONTACT_SHEET, Curated, thumbnail
from genvlm.data.curation.documents import evaluation_pictures
from genvlm.data.curation.rules import RuleReport
from genvlm.data.images import RGBImage
from genvlm.evaluation.blocks import (
    Block,
    Callout,
    Code,
    Gallery,
    Headline,
    Prose,
    Section,
    Table,
    Tile,
    show_start,
)
from genvlm.evaluation.report import render_report, save_report

_SHEET_TILE = 64
_SHEET_COLUMNS = 20
_KEPT_ON_PAGE = 36


def write_curation_page(curated: Curated, folder: Path, config: Any) -> None:
    """Write `ledger.html` and `kept.png`, a contact sheet, into the folder of the ledger."""
    ledger, decisions = curated.ledger, curated.decisions
    sections = [Section("What each rule dropped", [_rules_table(ledger), *_remarks(ledger)])]
    evaluation = _evaluation_thumbnails(curated, config)
    for report, row in zip(decisions.reports, ledger["rules"], strict=True):
        if report.drops:
            sections.append(_rule_section(curated, report, row, evaluation))
    shown = decisions.sample(_KEPT_ON_PAGE)
    kept = [
        Tile([curated.thumbnails[n]], [show_start(decisions.measured[n].caption)]) for n in shown
    ]
    num_kept = len(decisions.kept)
    sections += [
        Section(
            "Kept", [Gallery(kept, f"{len(kept)} of {num_kept}, by the hash of their ids.", 1)]
        ),
        Section("Configuration", [Code(dump_config(config), "yaml")]),
    ]
    headlines = [
        Headline("documents", f"{ledger['in']:,}"),
        Headline("kept", f"{num_kept:,}", f"{100 * num_kept / ledger['in']:.1f} %"),
        Headline("unreadable", str(ledger["rules"][0]["dropped"])),
    ]
    page = render_report("What was kept, and why not the rest", "", headlines, sections)
    save_report(page, folder / "ledger.html")
    sheet = [curated.thumbnails[n] for n in decisions.sample(CONTACT_SHEET)]
    save_contact_sheet(sheet, folder / "kept.png")


def _rules_table(ledger: Mapping[str, Any]) -> Table:
    counts = [(rule["name"], rule["in"], rule["dropped"]) for rule in ledger["rules"]]
    counts.append(("all rules", ledger["in"], ledger["in"] - ledger["kept"]))
    rows = [
        [name, num_in, dropped, 100 * dropped / max(num_in, 1), num_in - dropped]
        for name, num_in, dropped in counts
    ]
    return Table(
        ["rule, in order", "came so far", "dropped", "percent dropped", "kept"],
        rows,
        "A document is dropped by the first rule that it fails.",
        highlight_rows=[len(rows) - 1],
        bars=["percent dropped"],
    )


def _remarks(ledger: Mapping[str, Any]) -> list[Block]:
    found: list[Block] = []
    if ledger["skipped_by_readers"]:
        found.append(
            Callout(f"Readers skipped {ledger['skipped_by_readers']} damaged samples.", "warning")
        )
    if ledger["captions"] is not None:
        counts = ledger["captions"]
        found.append(
            Prose(
                f"{counts['synthetic']} kept pictures took a new caption, the original beside it; "
                f"for {counts['wanted_but_missing']} there was none."
            )
        )
    return found


def _rule_section(
    curated: Curated,
    report: RuleReport,
    row: Mapping[str, Any],
    evaluation: Mapping[str, RGBImage],
) -> Section:
    decisions = curated.decisions
    numbers = {measures.id: n for n, measures in enumerate(decisions.measured)}
    tiles, lines = [], []
    for example in row["examples"]:
        number = numbers[example["id"]]
        if number not in curated.thumbnails:
            lines.append([example["id"], example["because"]])
            continue
        images, labels = [curated.thumbnails[number]], [show_start(example["caption"])]
        other = example["like"]
        if other:
            like = numbers.get(other)
            images.append(evaluation[other] if like is None else curated.thumbnails[like])
            labels.append(
                other if like is None else f"stays: {show_start(decisions.measured[like].caption)}"
            )
        tiles.append(Tile(images, labels, example["because"]))
    blocks: list[Block] = [Prose(f"{len(report.drops):,} of {report.num_in:,} dropped.")]
    if tiles:
        blocks.append(Gallery(tiles, "Examples, by the hash of their ids.", 1))
    if lines:
        blocks.append(Table(["document", "why"], lines, "Examples.", align=["left", "left"]))
    if report.notes:
        blocks.append(Code(_yaml(report.notes), "yaml", "What else is known", collapsed=True))
    return Section(report.name, blocks)


def _evaluation_thumbnails(curated: Curated, config: Any) -> dict[str, RGBImage]:
    """Pictures of evaluations that examples look like."""
    found: dict[str, RGBImage] = {}
    for rule in config.rules:
        if not isinstance(rule, EvaluationPicturesRule):
            continue
        row = next(r for r in curated.ledger["rules"] if r["name"] == (rule.name or rule.kind))
        wanted = {example["like"] for example in row["examples"]}
        for name, image in evaluation_pictures(rule) if wanted else ():
            if name in wanted:
                found[name] = thumbnail(image)
    return found


def save_contact_sheet(images: Sequence[RGBImage], path: Path) -> None:
    """Pictures side by side on white, as a PNG of 256 colours."""
    columns = min(_SHEET_COLUMNS, max(len(images), 1))
    rows = max(-(-len(images) // columns), 1)
    gap = _SHEET_TILE + 4
    sheet = np.full((rows * gap, columns * gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = (2 + gap * place for place in divmod(number, columns))
        tile = thumbnail(image, _SHEET_TILE)
        sheet[top : top + _SHEET_TILE, left : left + _SHEET_TILE] = tile
    Image.fromarray(sheet).quantize(256).save(path, format="PNG", optimize=True)


def _yaml(notes: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(notes), sort_keys=False, allow_unicode=True)

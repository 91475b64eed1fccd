"""What a source holds, as a page to look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genvlm.data.curation.inspection import Inspection
from genvlm.evaluation.blocks import Block, Gallery, Headline, Section, Table, Tile, show_start
from genvlm.evaluation.report import render_report, save_report


def write_inspection_page(inspection: Inspection, title: str, path: Path) -> None:
    """The page, with some of the pictures in it."""
    found = inspection.to_json()
    headlines = [
        Headline("documents", f"{found['documents']:,}", _size(found["bytes"])),
        Headline("pictures", f"{found['pictures']:,}"),
        Headline("damaged", f"{found['damaged']['pictures'] + found['damaged']['videos']:,}"),
        Headline(
            "duplicates",
            f"{found['exact_duplicates'] + found['near_duplicates']:,}",
            f"{found['exact_duplicates']:,} of them exact",
        ),
    ]
    if found["videos"]:
        seconds = f"{found['clip_seconds_in_all']:,.0f} s"
        headlines.insert(2, Headline("videos", f"{found['videos']:,}", seconds))
    measured = (
        "width", "height", "longer_side_to_shorter", "clip_seconds", "clip_frames_per_second",
        "clip_width", "clip_height", "characters", "words",
    )  # fmt: skip
    rows = [
        [name.replace("_", " "), *(_cell(name, value) for value in found[name].values())]
        for name in measured
        if found[name]
    ]
    sizes = Table(["", "smallest", "5 %", "median", "95 %", "largest"], rows, "Sizes.")
    scripts = _counts("Texts by the script of most of their letters.", found["scripts"])
    texts: list[Block] = [scripts] if found["scripts"] else []
    if found["most_frequent_texts"]:
        texts += [
            _counts(f"{found['distinct_texts']:,} distinct texts.", found["most_frequent_texts"]),
            _counts("Words.", found["most_frequent_words"]),
        ]
    tiles = [Tile([small], [show_start(text)]) for _, text, small in inspection.sample]
    caption = "Some, by the hash of their ids; of videos the first frame."
    sections = [
        Section("Sizes", [sizes, _counts("Formats.", found["formats"] | found["clip_formats"])]),
        Section("Texts", texts),
        Section("Pictures", [Gallery(tiles, caption, 1)]),
    ]
    if found["damaged"]["examples"]:
        lines = [[text] for text in found["damaged"]["examples"]]
        sections.append(Section("Damaged", [Table(["why"], lines, "The first ones.")]))
    page = render_report(title, "", headlines, [s for s in sections if s.blocks])
    save_report(page, path)


def _cell(name: str, value: float) -> float | int:
    """Pixels, characters and words are whole; a percentile lies between two of them."""
    whole = ("width", "height", "clip_width", "clip_height", "characters", "words")
    return round(value) if name in whole else value


def _size(num_bytes: int) -> str:
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:.1f} kB"
    return f"{num_bytes / 1e6:,.1f} MB"


def _counts(caption: str, counts: Mapping[str, Any]) -> Table:
    return Table(["", "times"], [[show_start(key), n] for key, n in counts.items()], caption)

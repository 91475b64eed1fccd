"""Generated documents on disk: PNG and GIF files, one JSONL in our own schema, one HTML page."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from genvlm.data.clip_files import write_gif
from genvlm.data.images import RGBImage, save_image
from genvlm.evaluation.blocks import (
    Gallery,
    Section,
    Story,
    Tile,
)
from genvlm.evaluation.report import render_report, save_report
from genvlm.generation.sampled import SampledDocument
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.whole_files import write_whole
from genvlm.tokenization.document import Image, Text

_SAMPLE = re.compile(r"[0-9]{4,}-[0-9]+\.(png|gif)")


def write_samples(
    documents: Sequence[SampledDocument], pretrained: PretrainedModel, out: Path
) -> Path:
    """Write every document; returns the page. Samples that `out` held before are replaced.

    A line of `documents.jsonl` can be read back as a prompt, unless the sample holds no more than
    blanks.
    """
    stories = [story_parts(document, pretrained) for document in documents]
    ended = [document.ended for document in documents]
    return _write_stories(stories, ended, pretrained.fingerprint, out)


def write_prompted(
    prompts: Sequence[str], pictures: Sequence[RGBImage], fingerprint: str, out: Path
) -> Path:
    """Write each picture behind its prompt, as `write_samples` does."""
    stories: list[list[str | np.ndarray]] = [
        [prompt, picture] for prompt, picture in zip(prompts, pictures, strict=True)
    ]
    return _write_stories(stories, [True] * len(stories), fingerprint, out)


def _write_stories(
    stories: Sequence[Sequence[str | np.ndarray]],
    ended: Sequence[bool],
    fingerprint: str,
    out: Path,
) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    _remove_samples(out)
    rows, sections = [], []
    for number, (story, whole) in enumerate(zip(stories, ended, strict=True)):
        segments: list[dict[str, str]] = []
        for part in story:
            if isinstance(part, str):
                segments.append({"text": part})
            elif part.ndim == 4:
                name = f"{number:04d}-{len(segments)}.gif"
                write_gif(part, out / name)
                segments.append({"video": name})
            else:
                name = f"{number:04d}-{len(segments)}.png"
                save_image(part, out / name)
                segments.append({"image": name})
        rows.append({"id": f"{number:04d}", "segments": segments, "ended": whole})
        sections.append(Section(f"Sample {number}", [Story(story)]))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(out / "documents.jsonl", lines)
    page = out / "index.html"
    subtitle = f"{len(stories)} documents from model {fingerprint[:12]}"
    save_report(render_report("Generated documents", subtitle, sections=sections), page)
    return page


def _remove_samples(out: Path) -> None:
    """Remove the pictures and clips that an earlier `documents.jsonl` of `out` names, no others."""
    try:
        rows = [
            json.loads(line)
            for line in (out / "documents.jsonl").read_text("utf-8").split("\n")
            if line
        ]
        names = [value for row in rows for part in row["segments"] for value in part.values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return  # none, or not ours
    for name in names:
        if isinstance(name, str) and _SAMPLE.fullmatch(name):
            (out / name).unlink(missing_ok=True)


def write_pictures(
    pictures: Sequence[RGBImage],
    out: Path,
    *,
    title: str,
    caption: str,
    beside: Mapping[str, RGBImage],
) -> Path:
    """Write `0000.png` and on, and a page that shows each beside others; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    tiles = []
    for number, picture in enumerate(pictures):
        name = f"{number:04d}.png"
        save_image(picture, out / name)
        tiles.append(Tile([*beside.values(), picture], [*beside, name], caption))
    page = out / "index.html"
    sections = [Section(title, [Gallery(tiles)])]
    save_report(render_report(title, caption, sections=sections), page)
    return page


def story_parts(document: SampledDocument, pretrained: PretrainedModel) -> list[str | np.ndarray]:
    """Texts, decoded pictures and decoded clips of a document, in order."""
    parts: list[str | np.ndarray] = []
    for segment in document.segments:
        if isinstance(segment, Text):
            parts.append(segment.text)
        elif isinstance(segment, Image):
            parts.append(pretrained.image_tokenizer.decode(segment.codes[None])[0])
        elif pretrained.video_tokenizer is not None:
            parts.append(pretrained.video_tokenizer.decode([segment.codes])[0])
    return parts

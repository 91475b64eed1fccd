"""`genvlm data inspect`: what a source holds."""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from genvlm.cli.inputs import check_output_file
from genvlm.cli.parsing import Subparsers, add_command, positive, progress_bar
from genvlm.errors import ConfigError, GenvlmError

if TYPE_CHECKING:
    from genvlm.config.data import FileSource
    from genvlm.data.curation.inspection import Inspection

_NUMBERS = (
    "documents", "pairs", "pictures", "videos", "bytes", "skipped_by_readers", "blank",
    "exact_duplicates", "near_duplicates", "clip_seconds_in_all", "clips_of_unknown_duration",
    "texts", "distinct_texts",
)  # fmt: skip
_SPREADS = (
    "width", "height", "longer_side_to_shorter", "clip_seconds", "clip_frames_per_second",
    "clip_width", "clip_height", "characters", "words",
)  # fmt: skip


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "inspect",
        run,
        summary="Say what a source holds: sizes, aspects, captions, words, scripts, damaged files, "
        "duplicates; with --out as a page with pictures.",
        example="genvlm data inspect examples/data --out inspected.html",
    )
    parser.add_argument(
        "source",
        help="YAML with sources of files (a run's or a curation's), or a folder: captions.jsonl, "
        "pictures, tar files, Parquet files, videos; or an archive of one: .zip, .tar.gz, .tar",
    )
    parser.add_argument("--out", type=Path, help="HTML page to write")
    parser.add_argument("--limit", type=positive, help="read the first N documents of each source")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Inspect, and print or write."""
    from genvlm.config.assets import resolve_path
    from genvlm.data.curation.inspection import to_unpack
    from genvlm.studies.inspection_page import write_inspection_page

    path = resolve_path(arguments.source)
    if arguments.out is not None:
        check_output_file(arguments.out, but_not=path)
        _check_page(arguments.out)
    inspect = _inspect_archive if to_unpack(path) else _inspect
    inspection = inspect(path, arguments.limit)
    if arguments.out is not None:
        write_inspection_page(inspection, str(arguments.source), arguments.out)
    found = inspection.to_json()
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _print(found)
        if arguments.out is not None:
            print(arguments.out)
    return 0


def _check_page(path: Path) -> None:
    """Raises ConfigError: something else than a page stands there."""
    if not path.exists():
        return
    with path.open("rb") as file:
        start = file.read(100)
    if not start.lstrip().lower().startswith(b"<!doctype html"):
        raise ConfigError(f"--out {path} exists and is no HTML page: name another file")


def _inspect(path: Path, limit: int | None) -> "Inspection":
    from genvlm.data.curation.inspection import inspect_sources

    sources = _sources(path)
    with progress_bar("inspecting") as progress:
        return inspect_sources(sources, progress, limit, guessed=not _is_yaml(path))


def _inspect_archive(path: Path, limit: int | None) -> "Inspection":
    """In a temporary folder of the archive's name, by which files are named in what is said."""
    from genvlm.data.archives import extract_archive

    with tempfile.TemporaryDirectory(prefix="genvlm-") as temporary:
        top, folder = f"{temporary}{os.sep}", Path(temporary) / path.name
        try:
            extract_archive(path, folder)
            while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
                folder = inside[0]
            inspection = _inspect(folder, limit)
        except GenvlmError as error:
            raise type(error)(str(error).replace(top, "")) from None
    inspection.leave_out(top)
    return inspection


def _sources(path: Path) -> "list[FileSource]":
    from genvlm.config.curation import CurationConfig
    from genvlm.config.data import FileSource
    from genvlm.config.kinds import config_class
    from genvlm.config.schema import load_config
    from genvlm.data.curation.inspection import guess_sources

    if not _is_yaml(path):
        return guess_sources(path)
    config: Any = load_config(config_class(path), path)
    if isinstance(config, CurationConfig):
        return list(config.sources)
    listed = getattr(getattr(config, "data", None), "sources", ())
    found = [source for source in listed if isinstance(source, get_args(FileSource))]
    if not found:
        raise ConfigError(f"{path} names no source of files: there is nothing to inspect")
    return found


def _is_yaml(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml")


def _print(found: dict[str, Any]) -> None:
    for name in _NUMBERS:
        if found[name]:
            print(f"{name.replace('_', ' '):24} {found[name]:>14,}")
    for kind in ("pictures", "videos"):
        if found["damaged"][kind] or found[kind]:
            print(f"{'damaged ' + kind:24} {found['damaged'][kind]:>14,}")
    examples = found["damaged"]["examples"]
    for example in examples:
        print(f"  {example}")
    if more := found["damaged"]["pictures"] + found["damaged"]["videos"] - len(examples):
        print(f"  and {more:,} more")
    for name in _SPREADS:
        if found[name]:
            spread = "  ".join(f"{key} {value:g}" for key, value in found[name].items())
            print(f"{name.replace('_', ' '):24} {spread}")
    for name in (
        "formats",
        "clip_formats",
        "scripts",
        "most_frequent_texts",
        "most_frequent_words",
    ):
        shown = list(found[name].items())[:8]
        if shown:
            print(f"{name.replace('_', ' ')}:")
            for key, times in shown:
                print(f"  {times:>8,}  {key[:90]}")

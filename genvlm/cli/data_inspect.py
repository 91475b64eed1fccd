"""`genvlm data inspect`: what a source holds."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from genvlm.cli.inputs import check_output_file
from genvlm.cli.parsing import Subparsers, add_command, positive, progress_bar
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.config.data import FileSource

_NUMBERS = (
    "documents", "pairs", "pictures", "videos", "bytes", "skipped_by_readers", "blank",
    "exact_duplicates", "near_duplicates", "texts", "distinct_texts",
)  # fmt: skip
_SPREADS = ("width", "height", "longer_side_to_shorter", "characters", "words")


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
        "pictures, tar files, Parquet files, videos",
    )
    parser.add_argument("--out", type=Path, help="HTML page to write")
    parser.add_argument("--limit", type=positive, help="read the first N documents of each source")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Inspect, and print or write."""
    from genvlm.config.assets import resolve_path
    from genvlm.data.curation.inspection import inspect_sources
    from genvlm.studies.inspection_page import write_inspection_page

    path = resolve_path(arguments.source)
    sources = _sources(path)
    if arguments.out is not None:
        check_output_file(arguments.out, but_not=path)
    with progress_bar("inspecting") as progress:
        inspection = inspect_sources(sources, progress, arguments.limit)
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


def _sources(path: Path) -> "list[FileSource]":
    from genvlm.config.curation import CurationConfig
    from genvlm.config.data import FileSource
    from genvlm.config.kinds import config_class
    from genvlm.config.schema import load_config
    from genvlm.data.curation.inspection import guess_source

    if path.suffix not in (".yaml", ".yml"):
        return [guess_source(path)]
    config: Any = load_config(config_class(path), path)
    if isinstance(config, CurationConfig):
        return list(config.sources)
    listed = getattr(getattr(config, "data", None), "sources", ())
    found = [source for source in listed if isinstance(source, get_args(FileSource))]
    if not found:
        raise ConfigError(f"{path} names no source of files: there is nothing to inspect")
    return found


def _print(found: dict[str, Any]) -> None:
    for name in _NUMBERS:
        if found[name]:
            print(f"{name.replace('_', ' '):24} {found[name]:>14,}")
    print(f"{'damaged pictures':24} {found['damaged']['pictures']:>14,}")
    for example in found["damaged"]["examples"][:3]:
        print(f"  {example}")
    for name in _SPREADS:
        if found[name]:
            spread = "  ".join(f"{key} {value:g}" for key, value in found[name].items())
            print(f"{name.replace('_', ' '):24} {spread}")
    for name in ("formats", "scripts", "most_frequent_texts", "most_frequent_words"):
        shown = list(found[name].items())[:8]
        if shown:
            print(f"{name.replace('_', ' ')}:")
            for key, times in shown:
                print(f"  {times:>8,}  {key[:90]}")

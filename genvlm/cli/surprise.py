"""`genvlm surprise`: how surprising videos are, frame by frame and region by region."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genvlm.cli.eval_table import INCOMPLETE
from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import (
    Subparsers,
    add_command,
    add_device_option,
    positive,
    progress_bar,
)
from genvlm.errors import VideoError

if TYPE_CHECKING:
    from genvlm.studies.surprise import SurprisedBy

RECORDS_FILE, PAGE_FILE = "surprise.jsonl", "report.html"


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "surprise",
        run,
        summary="Say how surprising videos are: nats of each latent frame and region behind the "
        "first frames. Videos that cannot be read, or are too short, are named and left out, and "
        "the exit code is then 2; frames at the end that do not fit the tokenizer are cut.",
        example="genvlm surprise --model runs/physics/model --videos clips/*.mp4 --out surprise",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder with video")
    parser.add_argument(
        "--videos", type=Path, nargs="+", required=True, help="files, or folders of frames"
    )
    parser.add_argument(
        "--context", type=positive, default=9,
        help="first frames that are given, 1 + r k of them (default 9)",
    )  # fmt: skip
    parser.add_argument("--text", help="a caption that stands in front of every video")
    parser.add_argument(
        "--out", type=Path,
        help=f"folder for {RECORDS_FILE} (with every region) and {PAGE_FILE}, where videos play",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="print the records and nothing else, without regions"
    )
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure every video; exit code 2 where some were left out."""
    from genvlm.data.raw import Media
    from genvlm.evaluation.report import save_report
    from genvlm.models.pretrained import load_pretrained
    from genvlm.nn.whole_files import write_whole
    from genvlm.studies.surprise import MAX_SHOWN, measure_files, surprise_page

    if arguments.out is not None:
        check_output_folder(arguments.out, but_not=arguments.videos)
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    videos = [Media(kind="video", name=str(path), path=path) for path in arguments.videos]
    measured: list[SurprisedBy] = []
    failed: list[tuple[str, str]] = []
    with progress_bar("videos") as bar:
        found = measure_files(pretrained, videos, context=arguments.context, text=arguments.text)
        for done, one in enumerate(found, 1):
            if isinstance(one, tuple):
                failed.append(one)
            else:
                is_shown = arguments.out is not None and len(measured) < MAX_SHOWN
                measured.append(one if is_shown else one.unseen)
            bar(done, len(videos))
    if not measured:
        raise VideoError(f"none of {len(failed)} videos could be measured: {failed[0][1]}")
    records = [one.to_json(pretrained) for one in measured]
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out / RECORDS_FILE, "".join(json.dumps(r) + "\n" for r in records))
        page = surprise_page(measured, failed, f"{arguments.model.resolve().name}")
        save_report(page, arguments.out / PAGE_FILE)
        print(f"records and page in {arguments.out}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"videos": [_short(r) for r in records], "failed": dict(failed)}))
    else:
        _print(measured)
    for _, problem in failed:
        print(f"genvlm surprise: left out: {problem}", file=sys.stderr)
    if failed:
        print(f"genvlm surprise: {len(failed)} of {len(videos)} left out", file=sys.stderr)
    return INCOMPLETE if failed else 0


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """Without regions, of which only the file has all."""
    latents = [{k: v for k, v in one.items() if k != "regions"} for one in record["latent_frames"]]
    return {**record, "latent_frames": latents}


def _print(measured: "list[SurprisedBy]") -> None:
    for one in measured:
        print(f"{one.video}: {-one.score.total:.2f} nats behind {one.context} frames")
        if one.cut:
            print(f"  left out: {one.cut}")
        for (first, last), value in zip(one.spans, one.curve, strict=True):
            print(f"  frames {first}-{last}: " + ("given" if value is None else f"{value:.2f}"))

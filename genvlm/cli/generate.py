"""`genvlm generate`: text, images and videos behind a prompt or a document, or gaps filled.

Of a diffusion model: pictures of a prompt.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genvlm.cli.diffusion_sampling import (
    DIFFUSION_OPTIONS,
    add_diffusion_options,
    generate_pictures,
)
from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, add_device_option, positive, progress_bar
from genvlm.cli.prompts import has_gap, read_prompts
from genvlm.cli.sampling import (
    TOKEN_OPTIONS,
    add_sampling_options,
    refuse_options,
    sampling_settings,
)
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.generation.sampled import SampledDocument
    from genvlm.generation.sampling import SamplingSettings
    from genvlm.generation.stream import Event
    from genvlm.models.pretrained import PretrainedModel

_OF_DOCUMENTS = (
    "document", "video_frames", "max_tokens", "retrieve", "num_retrieved", "stream",
)  # fmt: skip

_OF_CONTINUED = ("max_tokens", "video_frames")


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "generate",
        run,
        summary="Continue a prompt with images, text and videos, or fill the gaps of documents; "
        "or draw pictures of a prompt with a diffusion model. Writes PNG and GIF files, a JSON "
        "document and one HTML page. What a video does next: genvlm rollout.",
        example='genvlm generate --model runs/demo/model --prompt "cow left of red heart" '
        "--num 4 --guidance-scale 1.5 --seed 0 --out runs/demo/samples\n"
        '  genvlm generate --model runs/d/model --prompt "red heart" --sampler dpm-solver++ '
        "--num-steps 20 --guidance-scale 2 --out runs/d/samples",
    )
    parser.add_argument(
        "--model", type=Path, required=True,
        help="model folder, ours or that of a StableDiffusionPipeline",
    )  # fmt: skip
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", help="text; an image follows it, or --video-frames")
    prompt.add_argument(
        "--document", type=Path,
        help='JSONL of documents, {"id", "segments": [{"text"} | {"image"} | {"video"}, ...]}; '
        "each is continued freely (a text behind a video tells what it shows), or, where it has "
        'gaps ({"gap": "text"}, {"gap": "image"}, {"image": ..., "mask": ...}), filled',
    )  # fmt: skip
    parser.add_argument(
        "--video-frames", type=positive, metavar="N",
        help="a video of N = 1 + r k frames follows the prompt and ends the document",
    )  # fmt: skip
    parser.add_argument("--num", type=positive, default=4, help="continuations of each prompt")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--max-tokens", type=positive, help="of prompt and continuation together")
    parser.add_argument(
        "--retrieve", type=Path, metavar="FOLDER",
        help="put like captioned pictures of this folder in front of the prompt (RA-CM3)",
    )  # fmt: skip
    parser.add_argument("--num-retrieved", type=positive, help="how many (default: 1)")
    parser.add_argument(
        "--stream", action="store_true", help="print one document (--num 1) while it is sampled"
    )
    add_sampling_options(parser)
    add_diffusion_options(parser)
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sample, write, print the page's path."""
    from genvlm.models.diffusion.open import holds_diffusion

    if holds_diffusion(arguments.model):
        reason = f"is of models that draw tokens, and {arguments.model} is a diffusion model"
        refuse_options(arguments, (*_OF_DOCUMENTS, *TOKEN_OPTIONS), reason)
        check_output_folder(arguments.out)
        print(generate_pictures(arguments))
    else:
        print(_generate_documents(arguments))
    return 0


def _generate_documents(arguments: argparse.Namespace) -> Path:
    """Documents of a model that draws tokens; returns the page."""
    from genvlm.models.pretrained import load_pretrained
    from genvlm.studies.samples import write_samples

    settings = sampling_settings(arguments)
    check_output_folder(arguments.out, but_not=[arguments.document] if arguments.document else [])
    if arguments.retrieve is not None and arguments.prompt is None:
        raise ConfigError("--retrieve looks for captions like --prompt: give one")
    if arguments.num_retrieved is not None and arguments.retrieve is None:
        raise ConfigError("--num-retrieved needs a folder to --retrieve from")
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    reason = f"is of diffusion models, and {arguments.model} draws tokens"
    refuse_options(arguments, DIFFUSION_OPTIONS, reason)
    prompts = read_prompts(arguments, pretrained)
    gapped = [has_gap(p) for p in prompts]
    if any(gapped) != all(gapped):
        raise ConfigError(
            f"{arguments.document} holds documents with gaps and without: give two files"
        )
    if any(gapped):
        refuse_options(arguments, _OF_CONTINUED, "is of continuations, and here gaps are filled")
    repeated = [p for p in prompts for _ in range(arguments.num)]
    options: dict[str, Any] = {"seed": arguments.seed}
    if not any(gapped):
        video_next = _num_latents(arguments, pretrained)
        options |= {
            "max_tokens": arguments.max_tokens, "video_next": video_next,
            "image_next": arguments.prompt is not None and video_next is None,
            "stop_after_visual": video_next is not None,
        }  # fmt: skip
    if not arguments.stream:
        documents = _sample(pretrained, repeated, settings, any(gapped), options)
    elif len(repeated) == 1 and not any(gapped):
        documents = _stream(pretrained, repeated, settings, options)
    else:
        raise ConfigError("--stream shows one document that is continued: set --num 1")
    return write_samples(documents, pretrained, arguments.out)


def _num_latents(arguments: argparse.Namespace, pretrained: "PretrainedModel") -> int | None:
    """Of the video that is asked for. Raises ConfigError: a length that does not fit."""
    from genvlm.models.pretrained import find_video_tokenizer

    if arguments.video_frames is None:
        return None
    return find_video_tokenizer(pretrained).config.num_latents(arguments.video_frames)


def _sample(
    pretrained: "PretrainedModel",
    prompts: "list[list[Any]]",
    settings: "SamplingSettings",
    gapped: bool,
    options: dict[str, Any],
) -> "list[SampledDocument]":
    from genvlm.generation.infill import fill_documents
    from genvlm.generation.interleaved import sample_documents

    complete = fill_documents if gapped else sample_documents
    with progress_bar("generating") as bar:
        return complete(
            pretrained, prompts, settings, progress=lambda done: bar(done, len(prompts)), **options
        )


def _stream(
    pretrained: "PretrainedModel",
    prompts: "list[list[Any]]",
    settings: "SamplingSettings",
    options: dict[str, Any],
) -> "list[SampledDocument]":
    from genvlm.generation.interleaved import stream_documents
    from genvlm.generation.stream import DocumentDone

    events = _printed(stream_documents(pretrained, prompts, settings, **options))
    return [event.document for event in events if isinstance(event, DocumentDone)]


def _printed(events: "Iterable[Event]") -> "Iterable[Event]":
    """Pass events on, telling each on standard error."""
    from genvlm.generation.stream import (
        ImageDone,
        ImageProgress,
        ImageStarted,
        TextPiece,
        VideoDone,
        VideoProgress,
        VideoStarted,
    )

    say = sys.stderr
    for event in events:
        match event:
            case TextPiece(text=text):
                print(text, end="", file=say, flush=True)
            case ImageStarted(num_codes=num_codes):
                print(f"\n[image of {num_codes} codes", end="", file=say, flush=True)
            case ImageProgress(num_drawn=num_drawn, num_codes=num_codes):
                tenths = num_drawn * 10 // num_codes - (num_drawn - 1) * 10 // num_codes
                print("." * tenths, end="", file=say, flush=True)
            case VideoStarted():
                print("\n[video ", end="", file=say, flush=True)
            case VideoProgress():
                print(".", end="", file=say, flush=True)
            case ImageDone() | VideoDone():
                print("]", file=say, flush=True)
            case _:
                print(file=say)
        yield event

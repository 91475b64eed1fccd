"""`genvlm rollout`: a video, or a picture, is continued in token space."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import (
    Subparsers,
    add_command,
    add_device_option,
    positive,
    progress_bar,
)
from genvlm.cli.sampling import add_sampling_options, refuse_options, sampling_settings
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.models.pretrained import PretrainedModel

_CONTEXT, _FRAMES, _NUM = 9, 24, 4
_OF_VIDEOS = ("fps", "start", "text", "num")


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "rollout",
        run,
        summary="Continue a video in token space, never through pixels again: GIF and MP4 of each "
        "continuation, rollout.json with how far it drifts, and a page that plays. Lengths: the "
        "context has 1 + r k frames and r k are drawn, r being the frames of a latent frame (4 in "
        "the shipped tokenizer). A video longer than the model's context slides behind its first "
        "latent frame.",
        example="genvlm rollout --model runs/world/model --video clip.mp4 --context 9 --frames 48 "
        "--num 4 --out runs/world/rollout\n"
        "  genvlm rollout --model runs/world/model --image red-heart.png --frames 16 --text "
        '"the red heart moves left" --out runs/world/from-picture\n'
        "  genvlm rollout --model runs/world/model --physics 100 --out runs/world/balls",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder, with video")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--video", type=Path, help="video, GIF or folder of frames; its first frames are continued"
    )
    source.add_argument("--image", type=Path, help="a picture, which is the first frame")
    source.add_argument(
        "--physics", type=positive, metavar="N",
        help="continue N held-out clips of balls, always the same ones, and count the "
        "balls in every frame",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=positive, help=f"frames that are given (default: {_CONTEXT})"
    )
    parser.add_argument(
        "--frames", type=positive, default=_FRAMES,
        help=f"frames to draw behind them (default: {_FRAMES})",
    )  # fmt: skip
    parser.add_argument("--num", type=positive, help=f"continuations (default: {_NUM})")
    parser.add_argument("--text", help="a caption that stands in front of the video")
    parser.add_argument(
        "--captions", action="store_true", help="with --physics: each clip's caption in front of it"
    )
    parser.add_argument(
        "--fps", type=float, help="resample the video to so many frames a second (default: its own)"
    )
    parser.add_argument("--start", type=float, help="seconds into the video (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_sampling_options(parser, temperature=1.0, top_p=1.0, two_scales=False, of_text=False)
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, print the page's path."""
    from genvlm.models.pretrained import find_video_tokenizer, load_pretrained
    from genvlm.studies.rollout import check_lengths

    inputs = [path for path in (arguments.video, arguments.image) if path is not None]
    check_output_folder(arguments.out, but_not=inputs)
    _check_options(arguments)
    num_context = arguments.context or (1 if arguments.image is not None else _CONTEXT)
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    check_lengths(find_video_tokenizer(pretrained).config, num_context, arguments.frames)
    if arguments.physics is not None:
        print(_roll_physics(arguments, pretrained, num_context))
    else:
        print(_roll_clip(arguments, pretrained, num_context))
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.physics is not None:
        refuse_options(arguments, _OF_VIDEOS, "is of one video, and --physics has its own clips")
    elif arguments.captions:
        raise ConfigError("--captions is of --physics: give a --text to a video of your own")
    led = arguments.guidance_scale != 1 or arguments.contrastive_top_k is not None
    if led and arguments.text is None and not arguments.captions:
        raise ConfigError(
            "--guidance-scale and --contrastive-top-k lead towards a text, and there is none: give "
            "a --text, or --captions to --physics"
        )
    if arguments.image is not None:
        refuse_options(arguments, ("fps", "start"), "is of videos, and --image is a picture")
        if arguments.context not in (None, 1):
            raise ConfigError(
                f"--context {arguments.context}: a picture is one frame, leave it out"
            )
    if arguments.video is not None and _has_frames(arguments.video):
        reason = f"is of videos with times, and {arguments.video} is a folder of frames"
        refuse_options(arguments, ("fps", "start"), reason)
    if arguments.fps is not None and not 0 < arguments.fps <= 1000:
        raise ConfigError(f"--fps {arguments.fps:g}: give a number above 0, at most 1000")
    if arguments.start is not None and not 0 <= arguments.start < float("inf"):
        raise ConfigError(f"--start {arguments.start:g}: give seconds, 0 or more")


def _has_frames(video: Path) -> bool:
    """Whether it is a folder of frames; what is wrong with another folder is said by its reader."""
    from genvlm.data.frame_folders import frame_paths
    from genvlm.data.video_containers import VideoFault

    try:
        return video.is_dir() and bool(frame_paths(video))
    except VideoFault:
        return False


def _roll_clip(
    arguments: argparse.Namespace, pretrained: "PretrainedModel", num_context: int
) -> Path:
    import numpy as np

    from genvlm.config.schema import to_plain
    from genvlm.data.clip_files import FRAMES_PER_SECOND
    from genvlm.data.first_frames import FirstFrames
    from genvlm.data.images import load_image
    from genvlm.models.pretrained import find_video_tokenizer
    from genvlm.studies.rollout import continue_clip, read_clip
    from genvlm.studies.rollout_page import write_continuation

    settings = sampling_settings(arguments)
    tokenizer = find_video_tokenizer(pretrained)
    lengths = {"num_context": num_context, "num_frames": arguments.frames}
    if arguments.image is not None:
        picture = tokenizer.fit(np.expand_dims(load_image(arguments.image), 0))
        clip = FirstFrames(frames=picture, frames_per_second=FRAMES_PER_SECOND)
    else:
        clip = read_clip(
            arguments.video, tokenizer.config.image.resolution, **lengths,
            frames_per_second=arguments.fps, start=arguments.start or 0,
        )  # fmt: skip
    with progress_bar("drawing latent frames") as bar:
        found = continue_clip(
            pretrained, clip.frames, settings, **lengths, num=arguments.num or _NUM,
            seed=arguments.seed, text=arguments.text, progress=bar,
        )  # fmt: skip
    about: dict[str, Any] = {
        "model": pretrained.fingerprint,
        "video": (arguments.video or arguments.image).name,
        "text": arguments.text,
        **lengths,
        "frames_per_latent": tokenizer.frames_per_latent,
        "frames_per_second": clip.frames_per_second,
        "seed": arguments.seed,
        "sampling": to_plain(settings),
    }
    return write_continuation(
        found, arguments.out, frames_per_second=clip.frames_per_second, about=about
    )


def _roll_physics(
    arguments: argparse.Namespace, pretrained: "PretrainedModel", num_context: int
) -> Path:
    from genvlm.studies.physics_rollout import roll_physics
    from genvlm.studies.physics_rollout_page import write_physics_rollout

    with progress_bar("drawing latent frames") as bar:
        found = roll_physics(
            pretrained, sampling_settings(arguments), num=arguments.physics,
            num_context=num_context, num_frames=arguments.frames, seed=arguments.seed,
            captions=arguments.captions, progress=bar,
        )  # fmt: skip
    return write_physics_rollout(found, arguments.out)

"""The options of sampling, which several commands share."""

import argparse
from typing import TYPE_CHECKING, Any

from genvlm.cli.parsing import positive, seed

if TYPE_CHECKING:
    from genvlm.generation.sampling import SamplingSettings

_DRAW = ("temperature", "top_k", "top_p")


def add_sampling_options(
    parser: argparse.ArgumentParser,
    *,
    temperature: float = 0.9,
    top_p: float = 0.95,
    two_scales: bool = True,
) -> None:
    """Declare them; the order in which they act is that of `--help`.

    `two_scales`: whether images may be guided towards images before them.
    """
    parser.add_argument("--seed", type=seed, default=0)
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--guidance-scale", type=float, default=1.0,
        help="of images, towards their text; 1: none",
    )  # fmt: skip
    if two_scales:
        group.add_argument(
            "--image-guidance-scale", type=float,
            help="of images, towards the images before them; with it --guidance-scale goes on "
            "from there (edits)",
        )  # fmt: skip
    else:
        parser.set_defaults(image_guidance_scale=None)
    group.add_argument(
        "--contrastive-top-k", type=positive, metavar="K",
        help="contrastive decoding TopK of CM3leon instead of guidance",
    )  # fmt: skip
    group.add_argument(
        "--repetition-penalty", type=float, default=1.0,
        help="of text alone: above 1 avoids what was said",
    )  # fmt: skip
    group.add_argument("--temperature", type=float, default=temperature, help="0: most likely")
    group.add_argument("--top-k", type=positive)
    group.add_argument("--top-p", type=float, default=top_p)
    group.add_argument("--text-temperature", type=float, help="of text, if it is another")
    group.add_argument("--text-top-k", type=positive)
    group.add_argument("--text-top-p", type=float)
    group.add_argument(
        "--bfloat16-cache", action="store_true", help="half the memory for keys and values, rounded"
    )


def sampling_settings(arguments: argparse.Namespace) -> "SamplingSettings":
    """What the options say. Raises ConfigError for impossible ones."""
    from genvlm.generation.sampling import Draw, SamplingSettings

    of_image: dict[str, Any] = {name: getattr(arguments, name) for name in _DRAW}
    own = {name: getattr(arguments, f"text_{name}") for name in _DRAW}
    return SamplingSettings(
        **of_image,
        text=Draw(**of_image | {name: x for name, x in own.items() if x is not None}),
        repetition_penalty=arguments.repetition_penalty,
        guidance_scale=arguments.guidance_scale,
        image_guidance_scale=arguments.image_guidance_scale,
        contrastive_top_k=arguments.contrastive_top_k,
        bfloat16_cache=arguments.bfloat16_cache,
    )

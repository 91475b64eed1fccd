"""The options of sampling, which several commands share."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genvlm.cli.parsing import positive, seed
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.generation.sampling import SamplingSettings

_DRAW = ("temperature", "top_k", "top_p")
TOKEN_OPTIONS = (
    "image_guidance_scale", "contrastive_top_k", "repetition_penalty", *_DRAW,
    *(f"text_{name}" for name in _DRAW), "bfloat16_cache",
)  # fmt: skip
"""Of models that draw tokens alone."""


def add_sampling_options(
    parser: argparse.ArgumentParser,
    *,
    temperature: float = 0.9,
    top_p: float = 0.95,
    two_scales: bool = True,
    of_text: bool = True,
) -> None:
    """Declare them; the order in which they act is that of `--help`.

    None of TOKEN_OPTIONS has a value unless it is given, so that a command can tell.

    Args:
        temperature, top_p: where they are not given.
        two_scales: whether images may be guided towards images before them.
        of_text: whether text is drawn too.
    """
    parser.set_defaults(default_temperature=temperature, default_top_p=top_p)
    parser.add_argument("--seed", type=seed, default=0)
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--guidance-scale", type=float, default=1.0,
        help="of images and videos, towards their text; 1: none",
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
    if of_text:
        group.add_argument(
            "--repetition-penalty", type=float,
            help="of text alone: above 1 avoids what was said",
        )  # fmt: skip
    group.add_argument(
        "--temperature", type=float, help=f"0: most likely (default: {temperature:g})"
    )
    group.add_argument("--top-k", type=positive)
    group.add_argument("--top-p", type=float, help=f"default: {top_p:g}")
    if of_text:
        group.add_argument("--text-temperature", type=float, help="of text, if it is another")
        group.add_argument("--text-top-k", type=positive)
        group.add_argument("--text-top-p", type=float)
    else:
        parser.set_defaults(repetition_penalty=None, **dict.fromkeys(f"text_{n}" for n in _DRAW))
    group.add_argument(
        "--bfloat16-cache", action="store_true", help="half the memory for keys and values, rounded"
    )


def sampling_settings(arguments: argparse.Namespace) -> "SamplingSettings":
    """What the options say. Raises ConfigError for impossible ones."""
    from genvlm.generation.sampling import Draw, SamplingSettings

    of_image: dict[str, Any] = {
        "temperature": _given(arguments.temperature, arguments.default_temperature),
        "top_k": arguments.top_k,
        "top_p": _given(arguments.top_p, arguments.default_top_p),
    }
    own = {name: getattr(arguments, f"text_{name}") for name in _DRAW}
    return SamplingSettings(
        **of_image,
        text=Draw(**of_image | {name: x for name, x in own.items() if x is not None}),
        repetition_penalty=_given(arguments.repetition_penalty, 1.0),
        guidance_scale=arguments.guidance_scale,
        image_guidance_scale=arguments.image_guidance_scale,
        contrastive_top_k=arguments.contrastive_top_k,
        bfloat16_cache=arguments.bfloat16_cache,
    )


def refuse_options(arguments: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Raises ConfigError if one of the options was given; they are None or False otherwise."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value is not False:
            raise ConfigError(f"--{name.replace('_', '-')} {reason}: leave it out")


def _given(value: float | None, default: float) -> float:
    return default if value is None else value

"""Options of commands that also score with diffusion models."""

import argparse

from genvlm.cli.parsing import positive, seed
from genvlm.errors import ConfigError

# As in genvlm.scoring.open, which is slow to import.
DIFFUSION_METHODS = ("squared_error", "absolute_error", "elbo", "learned")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """--num-samples and --seed."""
    parser.add_argument(
        "--num-samples", type=positive,
        help="of a diffusion model: noises, and passes of the network, a picture and text (64)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, help="of these noises (0)")


def refuse_sampling_options(arguments: argparse.Namespace) -> None:
    """Raises ConfigError: given for a model without them."""
    if (arguments.num_samples, arguments.seed) != (None, None):
        raise ConfigError("--num-samples and --seed are of diffusion models, and this is none")

"""`genvlm convert`: checkpoints of other projects in and out."""

import argparse
from pathlib import Path

from genvlm.cli.parsing import Subparsers, add_command, positive


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "convert",
        run,
        summary="Convert a checkpoint: Chameleon of Hugging Face and of Meta both ways, VQ-GANs of "
        "taming-transformers both ways, VQ-GANs of LlamaGen in. No code of a file is run.",
        example="genvlm convert chameleon-7b-hf models/chameleon-7b --to genvlm",
    )
    parser.add_argument("source", type=Path, help="folder or file; its layout is recognised")
    parser.add_argument("target", type=Path, help="new folder, or new file for taming")
    parser.add_argument(
        "--to", required=True, choices=("genvlm", "hf-chameleon", "meta-chameleon", "taming")
    )
    parser.add_argument(
        "--resolution", type=positive, default=256,
        help="pixels of a side that a VQ-GAN file was trained for, which it does not tell",
    )  # fmt: skip
    parser.add_argument(
        "--vqgan", type=Path, help="vqgan.ckpt with the decoder that Hugging Face leaves out"
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert and say what was written."""
    from genvlm.models.convert.layouts import convert

    print(
        convert(
            arguments.source,
            arguments.target,
            arguments.to,
            resolution=arguments.resolution,
            vqgan=arguments.vqgan,
        )
    )
    return 0

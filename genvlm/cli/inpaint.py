"""`genvlm inpaint`: the masked part of a picture is drawn anew."""

import argparse
from pathlib import Path

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, add_device_option, positive
from genvlm.cli.sampling import add_sampling_options, sampling_settings


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "inpaint",
        run,
        summary="Draw the masked part of a picture anew, to go with the rest and with a prompt; "
        "writes PNG files and one HTML page. Needs a model trained with infilling "
        "(configs/train/infill.yaml).",
        example="genvlm inpaint --model runs/infill/model --image examples/data/scene0.png "
        '--mask examples/data/masks/left-half.png --prompt "star left of red heart" --num 4 '
        "--out runs/infill/inpainted",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument(
        "--mask", type=Path, required=True, help="of the picture's size, white where to draw"
    )
    parser.add_argument("--prompt", help="what the whole picture then shows")
    parser.add_argument("--num", type=positive, default=4, help="versions")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_sampling_options(parser, temperature=0.2, top_p=1.0, two_scales=False)
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, print the page's path."""
    import numpy as np

    from genvlm.data.images import load_image, load_mask
    from genvlm.generation.infill import inpaint
    from genvlm.models.pretrained import load_pretrained
    from genvlm.studies.samples import write_pictures

    settings = sampling_settings(arguments)
    check_output_folder(arguments.out, but_not=[arguments.image, arguments.mask])
    image, mask = load_image(arguments.image), load_mask(arguments.mask)
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    n = arguments.num
    pictures = inpaint(
        pretrained, [image] * n, [mask] * n, [arguments.prompt] * n, settings, seed=arguments.seed
    )
    shown = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, 2)
    print(
        write_pictures(
            pictures,
            arguments.out,
            title="Inpainted",
            caption=arguments.prompt or "no prompt",
            beside={"picture": image, "mask": shown},
        )
    )
    return 0

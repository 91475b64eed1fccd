"""`genvlm edit`: a picture and an instruction in, the edited picture out."""

import argparse
from pathlib import Path

from genvlm.cli.inputs import check_output_folder, load_fitted
from genvlm.cli.parsing import Subparsers, add_command, add_device_option, positive
from genvlm.cli.sampling import add_sampling_options, sampling_settings


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "edit",
        run,
        summary="Edit a picture by an instruction, as the document 'picture, instruction, "
        "picture'; writes PNG files and one HTML page. Needs a model that has learned such "
        "documents (configs/train/infill.yaml).",
        example="genvlm edit --model runs/infill/model --image examples/data/scene0.png "
        '--instruction "replace cow with star" --num 4 --out runs/infill/edited',
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--instruction", required=True)
    parser.add_argument("--num", type=positive, default=4, help="versions")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_sampling_options(parser, temperature=0.2, top_p=1.0)
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, print the page's path."""
    from genvlm.generation.interleaved import sample_documents
    from genvlm.models.pretrained import load_pretrained
    from genvlm.studies.samples import write_pictures
    from genvlm.tokenization.document import Image, Segment, Text

    settings = sampling_settings(arguments)
    check_output_folder(arguments.out, but_not=[arguments.image])
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    image = load_fitted(arguments.image, pretrained)
    prompt: list[Segment] = [
        Image(pretrained.encode_images([image])[0]),
        Text(arguments.instruction),
    ]
    documents = sample_documents(
        pretrained,
        [prompt] * arguments.num,
        settings,
        seed=arguments.seed,
        image_next=True,
        stop_after_visual=True,
    )
    decode = pretrained.image_tokenizer.decode
    print(
        write_pictures(
            [decode(d.images[-1][None])[0] for d in documents],
            arguments.out,
            title="Edited",
            caption=arguments.instruction,
            beside={"picture": image},
        )
    )
    return 0

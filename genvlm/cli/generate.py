"""`genvlm generate`: interleaved text and images from a prompt or a document."""

import argparse
from pathlib import Path

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, positive, progress_bar, seed


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "generate",
        run,
        summary="Continue a prompt with images and text; writes PNG files, a JSON document and "
        "one HTML page.",
        example='genvlm generate --model runs/demo/model --prompt "cow left of red heart" '
        "--num 4 --seed 0 --out runs/demo/samples",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", help="text; an image follows it")
    prompt.add_argument(
        "--document", type=Path, help="JSONL of documents; each is continued freely"
    )
    parser.add_argument("--num", type=positive, default=4, help="continuations of each prompt")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--max-tokens", type=positive, help="of prompt and continuation together")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--top-k", type=positive)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--guidance-scale", type=float, default=1.0)


def run(arguments: argparse.Namespace) -> int:
    """Sample, write, print the page's path."""
    from genvlm.data.images import load_image
    from genvlm.data.readers import read_documents
    from genvlm.generation.interleaved import sample_documents
    from genvlm.generation.sampling import SamplingSettings
    from genvlm.models.pretrained import load_pretrained
    from genvlm.studies.samples import write_samples
    from genvlm.tokenization.document import Image, Segment, Text

    settings = SamplingSettings(
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        guidance_scale=arguments.guidance_scale,
    )
    check_output_folder(arguments.out, but_not=arguments.document)
    pretrained = load_pretrained(arguments.model)
    prompts: list[list[Segment]] = []
    if arguments.prompt is not None:
        prompts.append([Text(arguments.prompt)])
    else:
        for document in read_documents(arguments.document):
            segments: list[Segment] = []
            for part in document.segments:
                if isinstance(part, str):
                    segments.append(Text(part))
                else:
                    codes = pretrained.image_tokenizer.encode([load_image(part)])
                    segments.append(Image(codes[0]))
            prompts.append(segments)
    repeated = [p for p in prompts for _ in range(arguments.num)]
    with progress_bar("generating") as bar:
        documents = sample_documents(
            pretrained,
            repeated,
            settings,
            seed=arguments.seed,
            max_tokens=arguments.max_tokens,
            image_next=arguments.prompt is not None,
            progress=lambda done: bar(done, len(repeated)),
        )
    page = write_samples(documents, pretrained, arguments.out)
    print(page)
    return 0

"""`genvlm classify`: zero-shot posterior by Bayes' rule over log p(image | class text)."""

import argparse
import json
import math
from pathlib import Path

from genvlm.cli.inputs import load_fitted
from genvlm.cli.parsing import Subparsers, add_command, positive


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "classify",
        run,
        summary="Classify pictures zero-shot: p(class | image) by Bayes' rule on "
        "log p(image | class text).",
        example="genvlm classify --model runs/demo/model --images *.png --classes classes.txt "
        '--template "{}"',
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="picture files")
    parser.add_argument("--classes", type=Path, required=True, help="one class name a line")
    parser.add_argument(
        "--template", action="append", help="text with {} for the class name; may be repeated"
    )
    parser.add_argument("--top", type=positive, default=5, help="classes to print per picture")
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    """Classify and print the most probable classes."""
    from genvlm.data.readers import read_classes
    from genvlm.models.pretrained import load_pretrained
    from genvlm.scoring.autoregressive import LikelihoodScorer
    from genvlm.scoring.zero_shot import classify

    classes = read_classes(arguments.classes)
    pretrained = load_pretrained(arguments.model)
    images = [load_fitted(path, pretrained) for path in arguments.images]
    scorer = LikelihoodScorer(pretrained, "image_given_text")
    templates = arguments.template or ["{}"]
    posterior = classify(scorer, images, classes, templates=templates)
    results = [
        (
            str(path),
            [
                {
                    "class": classes[i],
                    "log_posterior": float(row[i]),
                    "log_p_image_given_class": float(likelihoods[i]),
                }
                for i in row.argsort()[::-1]
            ],
        )
        for path, row, likelihoods in zip(
            arguments.images, posterior.log_probs, posterior.log_likelihoods, strict=True
        )
    ]
    if arguments.json:
        listed = [{"image": image, "classes": ranked} for image, ranked in results]
        described = {
            "scorer": scorer.info.fingerprint, "templates": templates, "unit": "nats",
        }  # fmt: skip
        print(json.dumps(described | {"results": listed}))
        return 0
    for image, ranked in results:
        print(image)
        for entry in ranked[: arguments.top]:
            print(f"  {100 * math.exp(float(entry['log_posterior'])):6.2f} %  {entry['class']}")
    return 0

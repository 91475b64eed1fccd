"""`genvlm classify`: zero-shot posterior by Bayes' rule over log p(image | class text)."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.class_lists import print_posterior
from genvlm.cli.classify_diffusion import classify_with_diffusion
from genvlm.cli.classify_texts import classify_by_texts
from genvlm.cli.diffusion_options import (
    DIFFUSION_METHODS,
    add_sampling_options,
    refuse_sampling_options,
)
from genvlm.cli.elimination import calibrate_elimination, classify_by_dropping
from genvlm.cli.inputs import check_output_folder, load_fitted
from genvlm.cli.parsing import Subparsers, add_command, add_device_option, positive
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.models.pretrained import PretrainedModel
    from genvlm.scoring.protocols import Scorer
    from genvlm.studies.elimination import Task


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "classify",
        run,
        summary="Classify pictures zero-shot: p(class | image) by Bayes' rule on "
        "log p(image | class text), by a diffusion model's loss, or by a captioner's or CLIP's "
        "score of the class text.",
        example="genvlm classify --model runs/demo/model --images *.png --classes classes.txt "
        '--template "{}"',
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--images", type=Path, nargs="+", help="picture files without labels")
    pictures.add_argument(
        "--folder", type=Path, help="folder of class folders: reports accuracy as well"
    )
    pictures.add_argument(
        "--labels", type=Path,
        help='picture<TAB>class lines, or JSONL of {"image", "class"}: reports accuracy as well',
    )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, help="one class name a line; default: the classes of the labels"
    )
    parser.add_argument(
        "--template", action="append",
        help="text with {} for the class name; several are averaged as probabilities (losses of "
        "a diffusion model as they are)",
    )  # fmt: skip
    parser.add_argument("--prior", type=Path, help="class<TAB>weight lines; default: uniform")
    parser.add_argument(
        "--temperature", type=float, default=1.0,
        help="divides log-likelihoods before the softmax (1: Bayes' rule)",
    )  # fmt: skip
    parser.add_argument(
        "--copies", type=positive, default=1,
        help="mean log p over that many versions of each picture: itself and moved copies",
    )  # fmt: skip
    parser.add_argument(
        "--bfloat16", action="store_true",
        help="score in bfloat16 and near-ties again in float32; slower where the processor has no "
        "bfloat16 units",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=float,
        help="with --bfloat16: error in nats that it may make; default: measured on each picture",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate-elimination", action="store_true",
        help="measure how often dropping classes changes the answer, and keep it with the model",
    )  # fmt: skip
    parser.add_argument(
        "--eliminate", metavar="METHOD",
        help="drop classes on the way: bound (same answers), race[:LOST], halving[:PARTS] (as "
        "calibrated); with a diffusion model published, published-nested, sequential[:LOST]",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=DIFFUSION_METHODS,
        help="of a diffusion model: squared_error (default) or absolute_error, every noise level "
        "alike; elbo, the bound in nats; learned weights of levels",
    )  # fmt: skip
    add_sampling_options(parser)
    parser.add_argument(
        "--fit-timestep-weights", action="store_true",
        help="of a diffusion model: learn weights of levels from one half of labelled pictures, "
        "report on the other, and keep them with the model",
    )  # fmt: skip
    parser.add_argument("--top", type=positive, default=5, help="classes to print per picture")
    parser.add_argument("--out", type=Path, help="folder for results.json and report.html")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify and print the most probable classes; with labels, how many are right."""
    from genvlm.data.readers import read_class_folders, read_classes, read_labels, read_prior
    from genvlm.models.diffusion.open import holds_diffusion
    from genvlm.models.pretrained import load_pretrained
    from genvlm.scoring.open import is_mixed_modal
    from genvlm.scoring.zero_shot import check_temperature, class_texts
    from genvlm.studies.classification import right_classes
    from genvlm.studies.elimination import Task

    _check(arguments)
    if arguments.images:
        keys, paths, labels = [p.as_posix() for p in arguments.images], arguments.images, None
    else:
        source = arguments.folder or arguments.labels
        files = read_class_folders(source) if arguments.folder else read_labels(source)
        keys, paths = [f.key for f in files], [f.image for f in files]
        labels = [f.label for f in files]
    classes = read_classes(arguments.classes) if arguments.classes else sorted(set(labels or ()))
    if len(classes) < 2:
        raise ConfigError("the labels name a single class: list all classes with --classes")
    templates = arguments.template or ["{}"]
    class_texts(classes, templates)
    check_temperature(arguments.temperature)
    task = Task(
        classes=classes,
        templates=templates,
        prior=read_prior(arguments.prior, classes) if arguments.prior else None,
        temperature=arguments.temperature,
    )
    right = None if labels is None else right_classes(labels, classes)
    if holds_diffusion(arguments.model):
        return classify_with_diffusion(arguments, keys, paths, task, right)
    _refuse_diffusion_options(arguments)
    if not is_mixed_modal(arguments.model):
        return classify_by_texts(arguments, keys, paths, task, right)
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    images = [load_fitted(path, pretrained) for path in paths]
    if arguments.calibrate_elimination:
        return calibrate_elimination(arguments, pretrained, keys, images, task)
    if arguments.eliminate:
        return classify_by_dropping(arguments, pretrained, keys, images, task, right)
    scorer = _scorer(arguments, pretrained, task)
    return print_posterior(arguments, scorer, pretrained.fingerprint, keys, images, task, right)


def _refuse_diffusion_options(arguments: argparse.Namespace) -> None:
    refuse_sampling_options(arguments)
    for name, given in (
        ("method", arguments.method),
        ("fit-timestep-weights", arguments.fit_timestep_weights),
    ):
        if given:
            raise ConfigError(f"--{name} is of diffusion models, and this is none: leave it out")


def _check(arguments: argparse.Namespace) -> None:
    """Options that exclude each other, before anything is loaded."""
    labelled = arguments.images is None
    dropping = "--calibrate-elimination" if arguments.calibrate_elimination else "--eliminate"
    if arguments.calibrate_elimination and arguments.eliminate:
        raise ConfigError("give --calibrate-elimination first and --eliminate in another call")
    if arguments.calibrate_elimination or arguments.eliminate:
        for name, given in (("--copies", arguments.copies > 1), ("--bfloat16", arguments.bfloat16),
                            ("--out", arguments.out)):  # fmt: skip
            if given:
                raise ConfigError(f"{dropping} does not go with {name}: leave one of them out")
    if not labelled and arguments.classes is None:
        raise ConfigError("--images needs --classes, a file with one class name a line")
    if not labelled and arguments.out:
        raise ConfigError("--out writes what is right and wrong: give --folder or --labels")
    if arguments.margin is not None and not arguments.bfloat16:
        raise ConfigError("--margin is that of --bfloat16: give both or neither")
    if arguments.out:
        check_output_folder(arguments.out)


def _scorer(arguments: argparse.Namespace, pretrained: "PretrainedModel", task: "Task") -> "Scorer":
    from genvlm.scoring.autoregressive import LikelihoodScorer
    from genvlm.scoring.copies import CopiesScorer
    from genvlm.scoring.rescoring import NearTieScorer, in_bfloat16
    from genvlm.scoring.zero_shot import log_prior_of
    from genvlm.training.objectives.next_token import bfloat16_supported

    def likelihood(model: "PretrainedModel") -> "Scorer":
        scorer = LikelihoodScorer(model, "image_given_text")
        return CopiesScorer(scorer, copies=arguments.copies) if arguments.copies > 1 else scorer

    if not arguments.bfloat16:
        return likelihood(pretrained)
    if not bfloat16_supported():
        print(
            "genvlm classify: this processor has no bfloat16 units, so that --bfloat16 is slower "
            "than float32",
            file=sys.stderr,
        )
    return NearTieScorer(
        likelihood(in_bfloat16(pretrained)),
        likelihood(pretrained),
        margin=arguments.margin,
        texts_per_class=len(task.templates),
        log_prior=arguments.temperature * log_prior_of(task.classes, task.prior),
    )

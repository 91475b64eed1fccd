"""`genvlm score`: both conditional log-probabilities of image-text pairs, or one method's."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.diffusion_options import (
    DIFFUSION_METHODS,
    add_sampling_options,
    refuse_sampling_options,
)
from genvlm.cli.inputs import check_output_file, load_fitted
from genvlm.cli.parsing import Subparsers, add_command, add_device_option
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.data.readers import Pair
    from genvlm.scoring.protocols import Scorer, Scores

_METHODS = (
    "text_given_image", "image_given_text", "p_yes", "cosine", "clipscore", "logit",
    "pseudo_likelihood", "matching", *DIFFUSION_METHODS,
)  # fmt: skip
# Pairs whose pictures are held at once.
_PAIRS_PER_CALL = 256


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "score",
        run,
        summary="Score image-text pairs: log p(image | text), log p(text | image) and both "
        "unconditional terms, in nats; or by one --method, also for a folder of transformers, "
        "of a diffusion model or of a projector.",
        example="genvlm score --model runs/demo/model --pairs pairs.jsonl --out scores.jsonl",
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="model folder, of genvlm or of transformers"
    )
    parser.add_argument(
        "--pairs", type=Path, required=True, help='JSONL of {"id", "image", "text"} lines'
    )
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--per-token", action="store_true", help="add the value of every token")
    parser.add_argument(
        "--normalization", choices=("grammar", "vocabulary"), default="grammar",
        help="softmax over what the grammar allows (default) or over the whole vocabulary",
    )  # fmt: skip
    parser.add_argument(
        "--method",
        choices=_METHODS,
        help="one score a pair. Our models: text_given_image, image_given_text, p_yes (of a "
        "question). Models such as CLIP, SigLIP: cosine (default), logit (times the learned "
        "scale), clipscore (of transformers). CoCa: text_given_image (default), cosine, logit. "
        "Llava, Chameleon, projectors: text_given_image (default), p_yes. Diffusion models: "
        "squared_error (default), absolute_error, elbo, learned",
    )
    parser.add_argument(
        "--reduction", choices=("sum", "mean"), default="sum",
        help="with --method: log-probability of the whole, or per token",
    )  # fmt: skip
    parser.add_argument(
        "--prompt",
        help="words between image and text, for models such as Llava; for a projector what stands "
        "in front of the text, with {image} in it",
    )
    parser.add_argument(
        "--template", help="the question of p_yes, with {text} in it (a projector's: and {image})"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16", "float64"), default="float32",
        help="in which a folder of transformers, or a diffusion model, computes",
    )  # fmt: skip
    add_device_option(parser)
    add_sampling_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score and write one line per pair."""
    from genvlm.data.readers import read_pairs
    from genvlm.models.pretrained import load_pretrained
    from genvlm.nn.whole_files import write_whole
    from genvlm.scoring.autoregressive import Likelihood
    from genvlm.scoring.open import is_mixed_modal

    if arguments.method is not None or not is_mixed_modal(arguments.model):
        return _run_method(arguments)
    if arguments.reduction != "sum" or arguments.prompt or arguments.template:
        raise ConfigError("--reduction, --prompt and --template need --method")
    refuse_sampling_options(arguments)
    check_output_file(arguments.out, but_not=arguments.pairs)
    pairs = read_pairs(arguments.pairs)
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    codes = pretrained.encode_images([load_fitted(pair.image, pretrained) for pair in pairs])
    texts = [pair.text for pair in pairs]
    likelihood = Likelihood(pretrained, arguments.normalization)
    together = list(zip(codes, texts, strict=True))
    scored = {
        "image_given_text": likelihood.score_image_given_text(together),
        "text_given_image": likelihood.score_text_given_image(together),
    }
    if pretrained.condition_dropout > 0:
        scored["image"] = likelihood.score_image_given_text([(c, None) for c in codes])
        scored["text"] = likelihood.score_text_given_image([(None, t) for t in texts])
    else:
        note = "log p(image) and log p(text) are left out: the model never learned them"
        print(f"genvlm score: {note} (condition_dropout 0)", file=sys.stderr)
    lines = []
    for i, pair in enumerate(pairs):
        row: dict[str, object] = {"id": pair.id, "image": str(pair.image), "text": pair.text}
        for name, values in scored.items():
            row[f"log_p_{name}"] = values[i].total
            row[f"tokens_{name}"] = len(values[i].log_probs)
            if arguments.per_token:
                row[f"per_token_{name}"] = [float(x) for x in values[i].log_probs]
        row |= {
            "unit": "nats",
            "normalization": arguments.normalization,
            "model": pretrained.fingerprint,
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    write_whole(arguments.out, "\n".join(lines) + "\n")
    print(f"{len(lines)} pairs scored into {arguments.out}")
    return 0


def _run_method(arguments: argparse.Namespace) -> int:
    from genvlm.data.readers import read_pairs
    from genvlm.nn.whole_files import write_whole
    from genvlm.scoring.open import open_scorer

    if arguments.per_token or arguments.normalization != "grammar":
        raise ConfigError(
            "--per-token and --normalization belong to a model folder of genvlm without --method"
        )
    check_output_file(arguments.out, but_not=arguments.pairs)
    pairs = read_pairs(arguments.pairs)
    scorer = open_scorer(
        arguments.model,
        arguments.method,
        reduction=arguments.reduction,
        template=arguments.template,
        prompt=arguments.prompt,
        dtype=arguments.dtype,
        device=arguments.device,
        num_samples=arguments.num_samples,
        seed=arguments.seed,
    )
    info = scorer.info
    lines = []
    for pair, scores in zip(pairs, _score_pairs(scorer, pairs), strict=True):
        row: dict[str, object] = {"id": pair.id, "image": str(pair.image), "text": pair.text}
        row["score"] = float(scores.values[0, 0])
        if scores.num_tokens is not None:
            row["tokens"] = int(scores.num_tokens[0, 0])
        if scores.samples is not None:
            row["samples"] = scores.samples.shape[2]
        row |= {"unit": info.unit, "scorer": info.name, "fingerprint": info.fingerprint}
        lines.append(json.dumps(row, ensure_ascii=False))
    write_whole(arguments.out, "\n".join(lines) + "\n")
    print(f"{len(lines)} pairs scored by {info.name} ({info.unit}) into {arguments.out}")
    return 0


def _score_pairs(scorer: "Scorer", pairs: Sequence["Pair"]) -> "list[Scores]":
    from genvlm.data.images import load_image
    from genvlm.scoring.protocols import Grid

    scored = []
    for start in range(0, len(pairs), _PAIRS_PER_CALL):
        part = pairs[start : start + _PAIRS_PER_CALL]
        images = {path: load_image(path) for path in {pair.image for pair in part}}
        scored += scorer.score(
            [Grid(item_id=p.id, images=[images[p.image]], texts=[p.text]) for p in part]
        )
    return scored

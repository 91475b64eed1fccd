"""`genvlm score`: both conditional log-probabilities of image-text pairs."""

import argparse
import json
import sys
from pathlib import Path

from genvlm.cli.inputs import check_output_file, load_fitted
from genvlm.cli.parsing import Subparsers, add_command


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "score",
        run,
        summary="Score image-text pairs: log p(image | text), log p(text | image) and both "
        "unconditional terms, in nats.",
        example="genvlm score --model runs/demo/model --pairs pairs.jsonl --out scores.jsonl",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument(
        "--pairs", type=Path, required=True, help='JSONL of {"id", "image", "text"} lines'
    )
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--per-token", action="store_true", help="add the value of every token")
    parser.add_argument(
        "--normalization", choices=("grammar", "vocabulary"), default="grammar",
        help="softmax over what the grammar allows (default) or over the whole vocabulary",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Score and write one line per pair."""
    from genvlm.data.readers import read_pairs
    from genvlm.models.pretrained import load_pretrained
    from genvlm.nn.whole_files import write_whole
    from genvlm.scoring.autoregressive import Likelihood

    check_output_file(arguments.out, but_not=arguments.pairs)
    pairs = read_pairs(arguments.pairs)
    pretrained = load_pretrained(arguments.model)
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

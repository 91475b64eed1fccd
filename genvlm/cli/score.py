"""`genvlm score`: both conditional log-probabilities of image-text pairs."""

import argparse
import json
from pathlib import Path

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
    from genvlm.data.images import load_image
    from genvlm.data.readers import read_pairs
    from genvlm.models.pretrained import load_pretrained
    from genvlm.scoring.autoregressive import CodeCache, Likelihood

    pairs = read_pairs(arguments.pairs)
    images = [load_image(pair.image) for pair in pairs]
    pretrained = load_pretrained(arguments.model)
    likelihood = Likelihood(pretrained, arguments.normalization)
    codes = CodeCache(pretrained).encode(images)
    texts = [pair.text for pair in pairs]
    scored = {
        "image_given_text": likelihood.score_image_given_text(list(zip(codes, texts, strict=True))),
        "image": likelihood.score_image_given_text([(c, None) for c in codes]),
        "text_given_image": likelihood.score_text_given_image(list(zip(codes, texts, strict=True))),
        "text": likelihood.score_text_given_image([(None, t) for t in texts]),
    }
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
    temporary = arguments.out.with_name(arguments.out.name + ".tmp")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(arguments.out)
    print(f"{len(lines)} pairs scored into {arguments.out}")
    return 0

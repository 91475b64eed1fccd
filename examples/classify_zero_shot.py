"""Zero-shot classification in Python: `python examples/classify_zero_shot.py MODEL PICTURE ...`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genvlm.data.images import load_image
from genvlm.models.pretrained import load_pretrained
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.zero_shot import classify

CLASSES = ("red heart", "cow", "tulip", "rocket")


def main(model: str, *pictures: str) -> Sequence[str]:
    """Print the posterior of every picture; returns the most probable classes."""
    scorer = LikelihoodScorer(load_pretrained(Path(model)), "image_given_text")
    images = [load_image(path) for path in pictures]
    posterior = classify(scorer, images, CLASSES, prior=[1, 1, 1, 1])
    for path, row in zip(pictures, np.exp(posterior.log_probs), strict=True):
        print(path, {name: round(float(p), 3) for name, p in zip(CLASSES, row, strict=True)})
    return [CLASSES[i] for i in posterior.log_probs.argmax(1)]


if __name__ == "__main__":
    main(*sys.argv[1:])

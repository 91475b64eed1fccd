"""What `genvlm classify` prints: classes by probability, and how many are right."""

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from genvlm.data.images import RGBImage
    from genvlm.scoring.protocols import Scorer, Unit
    from genvlm.scoring.zero_shot import Posterior
    from genvlm.studies.elimination import Task


def print_posterior(
    arguments: argparse.Namespace,
    scorer: "Scorer",
    model: str,
    keys: list[str],
    images: "list[RGBImage]",
    task: "Task",
    right: "np.ndarray | None",
    *,
    score_name: str | None = None,
) -> int:
    """Score every class of every picture, and print or write what comes of it.

    Args:
        model: fingerprint.
        score_name: what the score of a class is called in JSON; by its unit by default.
    """
    from genvlm.scoring.rescoring import NearTieScorer
    from genvlm.scoring.zero_shot import classify, log_prior_of
    from genvlm.studies.classification import Classified, summarize
    from genvlm.studies.classification_report import save_classification

    unit = scorer.info.unit
    posterior = classify(scorer, images, task.classes, **task.settings)
    described: dict[str, object] = {
        "scorer": scorer.info.fingerprint, **task.settings, "unit": unit,
    }  # fmt: skip
    results = _ranked(keys, task.classes, posterior, score_name or score_key(unit))
    if isinstance(scorer, NearTieScorer):
        described["rescored"] = {"texts": scorer.num_rescored, "of": scorer.num_scored}
        if not arguments.json:
            said = f"{scorer.num_rescored:,} of {scorer.num_scored:,} texts scored again in float32"
            print(f"genvlm classify: {said}", file=sys.stderr)
    if right is not None:
        classified = Classified(
            keys=keys,
            right=right,
            classes=task.classes,
            posterior=posterior,
            log_prior=log_prior_of(task.classes, task.prior),
            settings={
                **described,
                "scorer": scorer.info.name,
                "fingerprint": scorer.info.fingerprint,
                "model": model,
                "copies": arguments.copies,
            },
        )
        if arguments.out:
            described |= save_classification(classified, images, arguments.out, top=arguments.top)
        else:
            described |= summarize(classified, top=arguments.top)
    if arguments.json:
        print(json.dumps(described | {"results": results}))
        return 0
    if unit == "reweighted_loss" and arguments.temperature == 1:
        said = "a loss is no log-probability: percentages mean nothing before a --temperature"
        print(f"genvlm classify: {said}", file=sys.stderr)
    if right is None:
        print_ranked(results, arguments.top)
        return 0
    print_accuracy(described)
    if arguments.out:
        print(f"results and report in {arguments.out}", file=sys.stderr)
    return 0


def _ranked(
    keys: list[str], classes: "Sequence[str]", posterior: "Posterior", score_name: str
) -> list[dict]:
    """Every class of every picture, best first."""
    return [
        {
            "image": key,
            "classes": [
                {
                    "class": classes[i],
                    "log_posterior": float(row[i]),
                    score_name: float(likelihoods[i]),
                }
                for i in row.argsort()[::-1]
            ],
        }
        for key, row, likelihoods in zip(
            keys, posterior.log_probs, posterior.log_likelihoods, strict=True
        )
    ]


def score_key(unit: "Unit") -> str:
    """What the score of a class is called in JSON."""
    return "log_p_image_given_class" if unit == "nats" else "score"


def print_ranked(results: list[dict], top: int) -> None:
    """The most probable classes of each picture."""
    for result in results:
        print(result["image"])
        for entry in result["classes"][:top]:
            print(f"  {100 * math.exp(entry['log_posterior']):6.2f} %  {entry['class']}")


def print_accuracy(described: dict) -> None:
    """Accuracy and what else was measured, each with its interval."""
    print(f"right: {said_share(described['accuracy'])}")
    # Among all classes everything is found: that says nothing.
    if "top_k" in described and described["top_k"]["k"] < described["num_classes"]:
        print(f"among the best {described['top_k']['k']}: {said_share(described['top_k'])}")
    if "calibration" in described:
        c = described["calibration"]
        said = f"calibration error of {c['num_reported']} pictures: {100 * c['ece_before']:.1f} %"
        others = f"the other {c['num_fitted']}"
        if c["temperature"] is None:
            print(f"{said} (no temperature could be fitted on {others}: {c['reason']})")
        else:
            after = f"after {100 * c['ece_after']:.1f} %"
            print(f"{said}, {after} (temperature {c['temperature']:.2f}, fitted on {others})")


def said_share(share: dict) -> str:
    """A share of `share_right` with its interval."""
    low, high = share["interval"]
    return (
        f"{share['value']:.1f} % ({share['right']} of {share['n']}; 95 % interval {low:.1f} "
        f"to {high:.1f} %)"
    )

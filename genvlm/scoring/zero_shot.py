"""Zero-shot classification by Bayes' rule on any scorer in nats. C classes, N images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, logsumexp

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.scoring.protocols import Grid, Scorer


class Posterior(NamedTuple):
    """p(class | image) = softmax over classes of log p(image | class) + log p(class)."""

    log_probs: Float[np.ndarray, "images classes"]
    log_likelihoods: Float[np.ndarray, "images classes"]


def classify(
    scorer: Scorer,
    images: Sequence[RGBImage],
    classes: Sequence[str],
    *,
    templates: Sequence[str] = ("{}",),
    prior: Sequence[float] | None = None,
) -> Posterior:
    """Posterior of every class for every image.

    Args:
        templates: texts with one `{}`; several are averaged as probabilities.
        prior: p(class), uniform by default.

    Raises:
        ConfigError: a template without `{}`, or a prior that is none.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"the template {template!r} must hold {{}} once, for the class name")
    log_prior = np.zeros(len(classes))
    if prior is not None:
        weights = np.asarray(prior, np.float64)
        if weights.shape != log_prior.shape or (weights <= 0).any():
            raise ConfigError(f"the prior must hold {len(classes)} positive numbers")
        log_prior = np.log(weights / weights.sum())
    texts = [t.replace("{}", name) for name in classes for t in templates]
    grids = [Grid(item_id=str(i), images=[image], texts=texts) for i, image in enumerate(images)]
    values = np.concatenate([s.values for s in scorer.score(grids)])
    by_template = values.reshape(len(images), len(classes), len(templates))
    likelihoods = logsumexp(by_template, axis=-1) - np.log(len(templates))
    return Posterior(log_softmax(likelihoods + log_prior, axis=-1), likelihoods)

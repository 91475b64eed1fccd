"""Zero-shot classification by Bayes' rule on any scorer in nats. C classes, N images.

Losses of a diffusion model are no log-probabilities: their best class is one, but their posterior
has no meaning before a temperature is fitted.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, logsumexp

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.scoring.protocols import Grid, Scorer


class Posterior(NamedTuple):
    """p(class | image) = softmax over classes of log p(image | class) + log p(class), in nats."""

    log_probs: Float[np.ndarray, "images classes"]
    log_likelihoods: Float[np.ndarray, "images classes"]


def classify(
    scorer: Scorer,
    images: Sequence[RGBImage],
    classes: Sequence[str],
    *,
    templates: Sequence[str] = ("{}",),
    prior: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Posterior:
    """Posterior of every class for every image.

    Args:
        templates: texts with one `{}`; several are averaged as probabilities, or where the scorer
            gives a reweighted loss, as scores.
        prior: p(class), uniform by default.
        temperature: log-likelihoods are divided by it before the softmax, the prior is not. It is
            1 by Bayes' rule; fit it on validation, never on what is reported.

    Raises:
        ConfigError: a class given twice, a template without `{}`, a prior that is none, or a
            temperature that is not positive.
    """
    texts = class_texts(classes, templates)
    log_prior = log_prior_of(classes, prior)
    check_temperature(temperature)
    grids = [Grid(item_id=str(i), images=[image], texts=texts) for i, image in enumerate(images)]
    scored = [s.values for s in scorer.score(grids)]
    values = np.concatenate([np.zeros((0, len(texts))), *scored])
    mean = mean_score_of_templates if scorer.info.unit == "reweighted_loss" else mean_over_templates
    likelihoods = mean(values, len(templates))
    return Posterior(log_softmax(likelihoods / temperature + log_prior, axis=-1), likelihoods)


def class_texts(classes: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template of the first class, then of the second, and so on.

    Raises:
        ConfigError: a class given twice, or a template without one `{}`.
    """
    twice = sorted(name for name, count in Counter(classes).items() if count > 1)
    if twice:
        raise ConfigError(
            f"classes given twice: {', '.join(map(repr, twice))}; their posterior would be shared "
            "out between equal texts: list each once"
        )
    if not templates:
        raise ConfigError("no template: give at least one, such as {}")
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"the template {template!r} must hold {{}} once, for the class name")
    return [t.replace("{}", name) for name in classes for t in templates]


def log_prior_of(
    classes: Sequence[str], prior: Sequence[float] | None
) -> Float[np.ndarray, " classes"]:
    """log p(class) of weights that need not sum to 1; zeros for None. Raises ConfigError."""
    if prior is None:
        return np.zeros(len(classes))
    weights = np.asarray(prior, np.float64)
    if weights.shape != (len(classes),) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ConfigError(f"the prior must hold {len(classes)} positive numbers")
    log_prior: Float[np.ndarray, " classes"] = np.log(weights / weights.sum())
    return log_prior


def mean_over_templates(
    values: Float[np.ndarray, "*rows texts"], num_templates: int
) -> Float[np.ndarray, "*rows classes"]:
    """log of the mean probability of each class' texts, as `class_texts` orders them."""
    means: Float[np.ndarray, "*rows classes"] = logsumexp(_by_class(values, num_templates), axis=-1)
    return means - np.log(num_templates)


def mean_score_of_templates(
    values: Float[np.ndarray, "*rows texts"], num_templates: int
) -> Float[np.ndarray, "*rows classes"]:
    """Mean of each class' texts: for losses, which are no log-probabilities."""
    means: Float[np.ndarray, "*rows classes"] = _by_class(values, num_templates).mean(-1)
    return means


def _by_class(
    values: Float[np.ndarray, "*rows texts"], num_templates: int
) -> Float[np.ndarray, "*rows classes templates"]:
    return values.reshape(*values.shape[:-1], values.shape[-1] // num_templates, num_templates)


def check_temperature(temperature: float) -> None:
    """Raises ConfigError unless positive and finite."""
    if not 0 < temperature < np.inf:
        raise ConfigError(f"the temperature must be positive and finite, got {temperature:g}")

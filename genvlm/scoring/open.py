"""The right scorer for a folder: ours, one that transformers wrote, or a diffusion model."""

from pathlib import Path
from typing import Literal, cast, get_args

from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.auxiliary.coca import COCA, load_coca
from genvlm.models.auxiliary.contrastive import CONTRASTIVE, load_contrastive
from genvlm.models.auxiliary.llip import LLIP, load_llip
from genvlm.models.auxiliary.masked import MASKED, load_masked
from genvlm.models.auxiliary.projector_folder import is_projector, load_projector
from genvlm.models.diffusion.open import holds_diffusion, open_diffusion
from genvlm.models.model_folder import is_finished, verify_folder
from genvlm.models.pretrained import load_pretrained
from genvlm.models.text_only import build_language
from genvlm.scoring.autoregressive import Direction, LikelihoodScorer, Reduction
from genvlm.scoring.captioner import CaptionerScorer
from genvlm.scoring.contrastive import (
    ContrastiveScorer,
    DualEncoderEmbedder,
    ForeignEmbedder,
    Formula,
)
from genvlm.scoring.diffusion import NUM_SAMPLES, DiffusionMethod, DiffusionScorer
from genvlm.scoring.image_text_to_text import (
    VQASCORE_TEMPLATE,
    ForeignAnswerer,
    ForeignLikelihoodScorer,
    ForeignPYesScorer,
)
from genvlm.scoring.llip import LlipScorer
from genvlm.scoring.masked import MatchingScorer, PseudoLikelihoodScorer
from genvlm.scoring.p_yes import TEMPLATE, PYesScorer
from genvlm.scoring.paired_errors import Precision
from genvlm.scoring.projector import (
    YES_TEMPLATE,
    ProjectorAnswerer,
    ProjectorLikelihoodScorer,
    ProjectorPYesScorer,
)
from genvlm.scoring.protocols import Answerer, Scorer
from genvlm.scoring.timestep_weights import load_timestep_weights
from genvlm.scoring.transformers_folder import DType, is_foreign, kind_of, load_foreign

Method = (
    Literal[
        "image_given_text",
        "text_given_image",
        "p_yes",
        "cosine",
        "clipscore",
        "logit",
        "pseudo_likelihood",
        "matching",
    ]
    | DiffusionMethod
)

METHODS: dict[str, tuple[Method, ...]] = {
    "mixed_modal": ("text_given_image", "image_given_text", "p_yes"),
    "contrastive": ("cosine", "logit"),
    "llip": ("cosine", "logit"),
    "coca": ("text_given_image", "cosine", "logit"),
    "masked": ("pseudo_likelihood", "matching", "cosine", "logit"),
    "projector": ("text_given_image", "p_yes"),
    "diffusion": ("squared_error", "absolute_error", "elbo", "learned"),
    "foreign_contrastive": ("cosine", "clipscore", "logit"),
    "foreign_image_text_to_text": ("text_given_image", "p_yes"),
}
"""What each kind of model can do; the first is the default. Foreign: written by transformers."""


def open_scorer(
    folder: str | Path,
    method: Method | None = None,
    *,
    reduction: Reduction = "sum",
    alpha: float = 0.0,
    template: str | None = None,
    prompt: str | None = None,
    dtype: DType = "float32",
    device: str = "cpu",
    num_samples: int | None = None,
    seed: int | None = None,
) -> Scorer:
    """A scorer of a model folder of genvlm, of transformers, of a diffusion model or a projector.

    Args:
        method: default: text_given_image, cosine for models such as CLIP, and squared_error for
            diffusion models.
        reduction: of text_given_image and image_given_text.
        alpha: of these on our own models: subtract alpha times the unconditional log-probability.
        template: the question of p_yes, with `{text}` (our own models: and `{answer}`; projectors:
            and `{image}`).
        prompt: for text_given_image, words between image and text of a foreign model; what stands
            in front of the text of a projector, with `{image}`.
        dtype: of foreign and diffusion models; the others compute as they were saved.
        device: where the model computes.
        num_samples, seed: of diffusion models: levels and noises of each score.

    Raises:
        ConfigError: this model has no such method, or the method no such option.
        CheckpointError: no model there.
    """
    kind = model_kind(folder)
    method = method or METHODS[kind][0]
    if method not in METHODS[kind]:
        raise ConfigError(
            f"{folder} holds a model of kind {kind}, which cannot score by {method}: choose "
            + " or ".join(METHODS[kind])
        )
    if kind != "diffusion" and (num_samples, seed) != (None, None):
        raise ConfigError("num_samples and seed are of diffusion models, and this is none")
    if reduction != "sum" and not method.endswith(("_text", "_image")):
        raise ConfigError(f"reduction {reduction} is of log-probabilities, and {method} is none")
    if template is not None and method != "p_yes":
        raise ConfigError(f"a template is the question of p_yes, and {method} asks none")
    prompted = kind in ("foreign_image_text_to_text", "projector") and method == "text_given_image"
    if prompt is not None and not prompted:
        raise ConfigError(
            "a prompt stands between image and text in text_given_image of a foreign model or of "
            "a projector alone"
        )
    if alpha and (kind != "mixed_modal" or not method.endswith(("_text", "_image"))):
        raise ConfigError(f"alpha {alpha:g} is of log-probabilities of our own models alone")
    if kind == "diffusion":
        chosen = cast(DiffusionMethod, method)
        return open_diffusion_scorer(folder, chosen, num_samples, seed, dtype=dtype, device=device)
    if kind == "mixed_modal":
        pretrained = load_pretrained(Path(folder), device=device)
        if method == "p_yes":
            return PYesScorer(pretrained, template=template or TEMPLATE)
        direction = cast(Direction, method)
        return LikelihoodScorer(pretrained, direction, alpha=alpha, reduction=reduction)
    if kind == "foreign_contrastive":
        foreign = load_foreign(folder, "contrastive", dtype=dtype, device=device)
        return ContrastiveScorer(ForeignEmbedder(foreign), cast(Formula, method))
    if kind == "contrastive":
        model = load_contrastive(Path(folder), device)
        return ContrastiveScorer(DualEncoderEmbedder(model), cast(Formula, method))
    if kind == "llip":
        return LlipScorer(load_llip(Path(folder), device), cast(Literal["cosine", "logit"], method))
    if kind == "coca":
        captioner = load_coca(Path(folder), device)
        if method != "text_given_image":
            return ContrastiveScorer(DualEncoderEmbedder(captioner), cast(Formula, method))
        return CaptionerScorer(captioner, reduction=reduction)
    if kind == "masked":
        masked = load_masked(Path(folder), device)
        if method == "pseudo_likelihood":
            return PseudoLikelihoodScorer(masked)
        if method == "matching":
            return MatchingScorer(masked)
        return ContrastiveScorer(DualEncoderEmbedder(masked), cast(Formula, method))
    if kind == "projector":
        projector = load_projector(Path(folder), build_language, device)
        if method == "p_yes":
            return ProjectorPYesScorer(projector, template=template or YES_TEMPLATE)
        return ProjectorLikelihoodScorer(projector, prompt=prompt, reduction=reduction)
    foreign = load_foreign(folder, "image_text_to_text", dtype=dtype, device=device)
    if method == "p_yes":
        return ForeignPYesScorer(foreign, template=template or VQASCORE_TEMPLATE)
    return ForeignLikelihoodScorer(foreign, prompt=prompt or "", reduction=reduction)


def open_diffusion_scorer(
    folder: str | Path,
    method: DiffusionMethod = "squared_error",
    num_samples: int | None = None,
    seed: int | None = None,
    *,
    dtype: DType = "float32",
    device: str = "cpu",
) -> DiffusionScorer:
    """A scorer of the folder of a diffusion model. Raises as `open_scorer` does."""
    if dtype not in get_args(Precision):
        raise ConfigError(f"diffusion models compute in float32 or bfloat16, not in {dtype}")
    model = open_diffusion(Path(folder), device)
    return DiffusionScorer(
        model,
        method,
        num_samples=NUM_SAMPLES if num_samples is None else num_samples,
        seed=seed or 0,
        weights=load_timestep_weights(Path(folder), model.fingerprint)
        if method == "learned"
        else None,
        precision=cast(Precision, dtype),
    )


def open_answerer(folder: str | Path, *, dtype: DType = "float32", device: str = "cpu") -> Answerer:
    """An answerer of a folder of transformers, or of a projector. Raises as `open_scorer` does."""
    kind = model_kind(folder)
    if kind == "projector":
        return ProjectorAnswerer(load_projector(Path(folder), build_language, device))
    if kind != "foreign_image_text_to_text":
        raise ConfigError(
            f"{folder} holds no model from images and text to text, such as Llava in "
            "transformers' layout or a projector: only such a model answers here"
        )
    return ForeignAnswerer(load_foreign(folder, "image_text_to_text", dtype=dtype, device=device))


def methods_of(folder: str | Path) -> tuple[Method, ...]:
    """What its model can do, the default first. Raises CheckpointError: no model there."""
    return METHODS[model_kind(folder)]


def is_mixed_modal(folder: str | Path) -> bool:
    """Whether this is a model folder of our transformer. Raises CheckpointError: no model there."""
    return model_kind(folder) == "mixed_modal"


def model_kind(folder: str | Path) -> str:
    """A key of METHODS. Raises CheckpointError: no model there."""
    if holds_diffusion(Path(folder)):
        return "diffusion"
    if CONTRASTIVE.owns(Path(folder)):
        return "contrastive"
    if LLIP.owns(Path(folder)):
        return "llip"
    if COCA.owns(Path(folder)):
        return "coca"
    if MASKED.owns(Path(folder)):
        return "masked"
    if is_projector(Path(folder)):
        return "projector"
    if is_foreign(folder):
        return f"foreign_{kind_of(folder)}"
    if not Path(folder).is_dir():
        raise CheckpointError(
            f"no model folder at {folder}: give a local one, of genvlm or of transformers; nothing "
            "is downloaded"
        )
    if not is_finished(Path(folder)):
        verify_folder(Path(folder))  # says what is wrong with it
    return "mixed_modal"

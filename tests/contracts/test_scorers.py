"""What holds for every scorer: ours, those of foreign models, and the controls."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genvlm.models.auxiliary.coca import CoCaModel
from genvlm.models.auxiliary.contrastive import Loss
from genvlm.models.auxiliary.masked import MaskedModel
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.captioner import CaptionerScorer
from genvlm.scoring.contrastive import (
    ContrastiveScorer,
    DualEncoderEmbedder,
    ForeignEmbedder,
    Formula,
)
from genvlm.scoring.controls import ConstantScorer, FormatScorer, LengthScorer
from genvlm.scoring.copies import CopiesScorer
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.image_text_to_text import ForeignLikelihoodScorer, ForeignPYesScorer
from genvlm.scoring.llip import LlipScorer
from genvlm.scoring.masked import MatchingScorer, PseudoLikelihoodScorer
from genvlm.scoring.ngram import NGramScorer, fit_trigram
from genvlm.scoring.p_yes import PYesScorer
from genvlm.scoring.projector import ProjectorLikelihoodScorer, ProjectorPYesScorer
from genvlm.scoring.protocols import Grid, Scorer
from genvlm.scoring.timestep_weights import TimestepWeights
from genvlm.scoring.transformers_folder import ForeignModel, Kind, load_foreign
from genvlm.testing.foreign_models import (
    CHAT_TEMPLATE,
    write_tiny_chameleon,
    write_tiny_clip,
    write_tiny_llava,
    write_tiny_siglip,
    write_tiny_siglip2,
)
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_auxiliary import tiny_coca, tiny_contrastive, tiny_llip, tiny_masked
from genvlm.testing.tiny_diffusion import NetworkKind, tiny_diffusion
from genvlm.testing.tiny_projector import (
    LanguageKind,
    PatchKind,
    ProjectorKind,
    tiny_projector,
)

PAIRS = tiny_pairs()
Build = Callable[[int, Path], Scorer]
"""A scorer of weights drawn by a seed, written into a folder where they are foreign."""


def ours(kind: Callable[..., Scorer], **settings: Any) -> Build:
    return lambda seed, folder: kind(tiny_pretrained(seed=seed), **settings)


def foreign(
    write: Callable[..., Any], kind: Kind, scorer: Callable[..., Scorer], **settings: Any
) -> Build:
    def build(seed: int, folder: Path) -> Scorer:
        write(folder, seed=seed)
        return scorer(load_foreign(folder, kind), **settings)

    return build


def clip(scorer: Callable[..., Scorer], **settings: Any) -> Build:
    return foreign(write_tiny_clip, "contrastive", scorer, **settings)


def cosine(foreign: ForeignModel, **settings: Any) -> Scorer:
    return ContrastiveScorer(ForeignEmbedder(foreign), **settings)


def our_contrastive(loss: Loss, seed: int, formula: Formula = "cosine") -> Scorer:
    model = tiny_contrastive(loss, seed=seed)
    # Sums of float32 differ in their last digits by the batch.
    model.network.double()
    return ContrastiveScorer(DualEncoderEmbedder(model), formula)


def our_llip(seed: int) -> Scorer:
    model = tiny_llip(seed=seed)
    model.network.double()
    return LlipScorer(model)


def our_captioner(seed: int) -> CoCaModel:
    model = tiny_coca(seed=seed)
    model.network.double()
    return model


def our_masked(seed: int) -> MaskedModel:
    model = tiny_masked(seed=seed)
    model.network.double()
    return model


def llava(scorer: Callable[..., Scorer], **settings: Any) -> Build:
    write = partial(write_tiny_llava, chat_template=CHAT_TEMPLATE)
    return foreign(write, "image_text_to_text", scorer, **settings)


def diffusion(
    network: NetworkKind = "dit", *, weights: tuple[float, ...] | None = None, **settings: Any
) -> Build:
    def build(seed: int, folder: Path) -> Scorer:
        model = tiny_diffusion(network, seed=seed, num_levels=100)
        # The bound is thousands of nats: float32 would differ in its last digits by the batch.
        model.denoiser.double()
        learned = None
        if weights is not None:
            learned = TimestepWeights(
                model=model.fingerprint, weights=weights, num_images=1, num_samples=1
            )
        return DiffusionScorer(model, num_samples=4, weights=learned, **settings)

    return build


def projector(
    scorer: Callable[..., Scorer],
    language: LanguageKind = "llama",
    patches: PatchKind = "vqgan",
    kind: ProjectorKind = "mlp",
    **settings: Any,
) -> Build:
    return lambda seed, folder: scorer(
        tiny_projector(folder, language, patches, projector=kind, seed=seed), **settings
    )


LEARNED: dict[str, Build] = {
    "log p(text | image)": ours(LikelihoodScorer, direction="text_given_image"),
    "log p(image | text)": ours(LikelihoodScorer, direction="image_given_text"),
    "log p(text | image) per token": ours(
        LikelihoodScorer, direction="text_given_image", reduction="mean"
    ),
    "log p(image | text), mean of 3 copies": lambda seed, folder: CopiesScorer(
        LikelihoodScorer(tiny_pretrained(seed=seed), "image_given_text"), copies=3
    ),
    "P(yes)": ours(PYesScorer),
    "P(yes), another template": ours(PYesScorer, template="{text}: {answer}"),
    "CLIP": clip(cosine),
    "CLIPScore": clip(cosine, formula="clipscore"),
    "CLIP's logit": clip(cosine, formula="logit"),
    "SigLIP": foreign(write_tiny_siglip, "contrastive", cosine),
    "SigLIP 2": foreign(write_tiny_siglip2, "contrastive", cosine),
    "our CLIP": lambda seed, folder: our_contrastive("infonce", seed),
    "our CLIP, logit": lambda seed, folder: our_contrastive("infonce", seed, "logit"),
    "our SigLIP": lambda seed, folder: our_contrastive("sigmoid", seed),
    "our Llip": lambda seed, folder: our_llip(seed),
    "our CoCa": lambda seed, folder: CaptionerScorer(our_captioner(seed)),
    "our CoCa, by piece": lambda seed, folder: CaptionerScorer(
        our_captioner(seed), reduction="mean"
    ),
    "our FLAVA": lambda seed, folder: PseudoLikelihoodScorer(our_masked(seed)),
    "our FLAVA, matching": lambda seed, folder: MatchingScorer(our_masked(seed)),
    "our FLAVA, cosine": lambda seed, folder: ContrastiveScorer(
        DualEncoderEmbedder(our_masked(seed))
    ),
    "our CoCa, cosine": lambda seed, folder: ContrastiveScorer(
        DualEncoderEmbedder(our_captioner(seed))
    ),
    "Chameleon": foreign(write_tiny_chameleon, "image_text_to_text", ForeignLikelihoodScorer),
    "Llava": llava(ForeignLikelihoodScorer),
    "Llava per token": llava(ForeignLikelihoodScorer, reduction="mean"),
    "Llava with a prompt": llava(ForeignLikelihoodScorer, prompt="Describe the image."),
    "Llava, P(Yes)": llava(ForeignPYesScorer),
    "Llava, P(Yes) against P(No)": llava(ForeignPYesScorer, against="No"),
    "Llava, P(Yes), another template": llava(ForeignPYesScorer, template="{text}?"),
    "projector": projector(ProjectorLikelihoodScorer),
    "projector per token": projector(ProjectorLikelihoodScorer, reduction="mean"),
    "projector, another prompt": projector(
        ProjectorLikelihoodScorer, prompt="{image} What is it ?"
    ),
    "projector of CLIP onto GPT-2": projector(ProjectorLikelihoodScorer, "gpt2", "clip"),
    "projector of SigLIP onto our own": projector(ProjectorLikelihoodScorer, "genvlm", "siglip"),
    "projector of our CLIP": projector(ProjectorLikelihoodScorer, "llama", "own"),
    "projector of a trained encoder": projector(ProjectorLikelihoodScorer, "llama", "small"),
    "projector of queries": projector(ProjectorLikelihoodScorer, kind="queries"),
    "projector, P(yes)": projector(ProjectorPYesScorer),
    "projector onto our own, P(yes)": projector(
        ProjectorPYesScorer, "genvlm", template="{image}{text}?"
    ),
    "diffusion, squared error": diffusion(),
    "diffusion, absolute error": diffusion(method="absolute_error"),
    "diffusion, bound": diffusion(method="elbo"),
    "diffusion, learned weights": diffusion(method="learned", weights=(1.0, 0.5)),
    "diffusion, another seed, U-Net": diffusion("unet", seed=1),
}
CONTROLS: dict[str, Build] = {
    kind.__name__: lambda seed, folder, kind=kind: kind()
    for kind in (ConstantScorer, LengthScorer, FormatScorer)
} | {
    f"n-gram, {reduction}": lambda seed, folder, reduction=reduction: NGramScorer(
        fit_trigram(text for text, _ in PAIRS[::2]), reduction=reduction
    )
    for reduction in ("sum", "mean")
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scorer]:
    """Each scorer once."""
    scorers: dict[str, Scorer] = {}

    def build(name: str) -> Scorer:
        if name not in scorers:
            scorers[name] = (LEARNED | CONTROLS)[name](0, tmp_path_factory.mktemp("model"))
        return scorers[name]

    return build


@pytest.fixture(params=[*LEARNED, *CONTROLS])
def scorer(request: pytest.FixtureRequest, built: Callable[[str], Scorer]) -> Scorer:
    return built(request.param)


def grid(name: str, images: list[int], texts: list[int]) -> Grid:
    return Grid(
        item_id=name, images=[PAIRS[i][1] for i in images], texts=[PAIRS[i][0] for i in texts]
    )


GRIDS = [grid("a", [0, 4], [0, 4, 8]), grid("b", [7], [7, 1]), grid("c", [4, 2, 9], [4])]


def test_scores_are_finite_float64_of_the_shape_of_their_grid(scorer: Scorer) -> None:
    found = scorer.score(GRIDS)
    assert [s.values.shape for s in found] == [(2, 3), (1, 2), (3, 1)]
    for scores in found:
        assert scores.values.dtype == np.float64
        assert np.isfinite(scores.values).all()
        if scores.num_tokens is not None:
            assert scores.num_tokens.shape == scores.values.shape
            assert scores.num_tokens.min() > 0


def test_no_grid_gives_no_scores(scorer: Scorer) -> None:
    assert scorer.score([]) == []


def test_the_order_of_grids_does_not_matter(scorer: Scorer) -> None:
    forward, backward = scorer.score(GRIDS), scorer.score(GRIDS[::-1])[::-1]
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_allclose(a.values, b.values, rtol=0, atol=2e-5)


def test_the_order_of_images_and_texts_does_not_matter(scorer: Scorer) -> None:
    (straight,) = scorer.score([grid("a", [0, 4, 7], [0, 4, 8])])
    (turned,) = scorer.score([grid("a", [7, 0, 4], [8, 4, 0])])
    np.testing.assert_allclose(
        turned.values, straight.values[[2, 0, 1]][:, [2, 1, 0]], rtol=0, atol=2e-5
    )


def test_a_pair_alone_scores_as_in_its_grid(scorer: Scorer) -> None:
    (whole,) = scorer.score(GRIDS[:1])
    (alone,) = scorer.score([grid("x", [4], [8])])
    np.testing.assert_allclose(alone.values, whole.values[1:, 2:], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", LEARNED)
def test_equal_weights_have_equal_fingerprints_wherever_they_lie(
    name: str, built: Callable[[str], Scorer], tmp_path: Path
) -> None:
    first = built(name)
    first.score(GRIDS[:1])  # having worked changes nothing
    same, other = LEARNED[name](0, tmp_path / "0"), LEARNED[name](1, tmp_path / "1")
    assert first.info.fingerprint == same.info.fingerprint != other.info.fingerprint
    np.testing.assert_array_equal(first.score(GRIDS[:1])[0].values, same.score(GRIDS[:1])[0].values)
    assert str(tmp_path) not in str(dict(same.info.settings))


def test_no_two_scorers_share_a_fingerprint(built: Callable[[str], Scorer]) -> None:
    names = [*LEARNED, *CONTROLS]
    assert len({built(name).info.fingerprint for name in names}) == len(names)

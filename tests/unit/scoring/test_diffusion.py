"""The scorer of diffusion models, beside a plain re-statement of the published formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genvlm.config.diffusion import Prediction
from genvlm.errors import ConfigError, ModelError, TokenError
from genvlm.models.diffusion.model import Denoiser, DiffusionModel
from genvlm.models.diffusion.schedule import build_schedule
from genvlm.scoring import diffusion, paired_errors
from genvlm.scoring.diffusion import DiffusionMethod, DiffusionScorer
from genvlm.scoring.noise_pairs import NoisePairs
from genvlm.scoring.paired_errors import PairedErrors
from genvlm.scoring.protocols import Grid
from genvlm.scoring.timestep_weights import TimestepWeights
from genvlm.scoring.zero_shot import classify
from genvlm.testing.gaussian_diffusion import class_text, gaussian_diffusion, picture_of
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_diffusion import tiny_diffusion

TEXTS, IMAGES = (list(column) for column in zip(*tiny_pairs()[:4], strict=True))
GRID = Grid(item_id="a", images=IMAGES[:2], texts=[*TEXTS[:3], ""])


def plain_errors(
    model: DiffusionModel, grid: Grid, scorer: DiffusionScorer, *, absolute: bool = False
) -> np.ndarray:
    """E|target - prediction|^2 of every pair by itself, written out as it is published."""
    errors = np.zeros((len(grid.images), len(grid.texts), len(scorer.pairs)))
    x = model.latents.encode(grid.images)
    for k, t in enumerate(scorer.pairs.levels):
        alpha, sigma = model.schedule.alphas[t], model.schedule.sigmas[t]
        noise = scorer.pairs.noise(np.array([k]), model.latents.shape)
        for i in range(len(grid.images)):
            x_t = alpha * x[i : i + 1] + sigma * noise
            target = {
                "epsilon": noise,
                "v_prediction": alpha * noise - sigma * x[i : i + 1],
                "flow": noise - x[i : i + 1],
            }[model.prediction]
            for j, text in enumerate(grid.texts):
                pieces, mask = model.texts.encode([text])
                states = model.denoiser.text_encoder(pieces, mask)
                time = torch.tensor([model.schedule.times[t]]).float()
                difference = target - model.denoiser.network(x_t.float(), time, states, mask)
                found = difference.abs() if absolute else difference**2
                errors[i, j, k] = float(found.mean())
    return errors


@pytest.mark.parametrize(
    ("network", "latents", "prediction"),
    [("dit", "pixels", "epsilon"), ("unet", "pixels", "v_prediction"), ("dit", "vqgan", "flow")],
)
def test_scores_are_those_of_the_published_formula_written_out(
    network: str, latents: str, prediction: Prediction
) -> None:
    model = tiny_diffusion(network, latents, prediction)
    with torch.no_grad():
        for method in ("squared_error", "absolute_error"):
            scorer = DiffusionScorer(model, method, num_samples=6, seed=1)
            [scores] = scorer.score([GRID])
            expected = plain_errors(model, GRID, scorer, absolute=method == "absolute_error")
            np.testing.assert_allclose(scores.samples, -expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(scores.values, -expected.mean(2), rtol=1e-5, atol=1e-5)
            assert scores.samples.dtype == np.float32
            assert scorer.info.unit == "reweighted_loss"


def test_bound_and_learned_weights_weigh_the_same_errors_by_level() -> None:
    model = tiny_diffusion()
    squared = DiffusionScorer(model, num_samples=8)
    [losses] = squared.score([GRID])
    levels = squared.pairs.levels
    [bound] = DiffusionScorer(model, "elbo", num_samples=8).score([GRID])
    weights = model.schedule.elbo_weights(model.prediction)[levels] * 1000 * 3 * 8 * 8
    latents = model.latents.encode(GRID.images).flatten(1).double().numpy()
    constants = model.schedule.constant_nats(latents)
    expected = losses.samples * weights - constants[:, None, None]
    np.testing.assert_allclose(bound.samples, expected, rtol=1e-4)
    learned = TimestepWeights(
        model=model.fingerprint, weights=(1.0, 3.0), num_images=1, num_samples=1
    )
    [found] = DiffusionScorer(model, "learned", num_samples=8, weights=learned).score([GRID])
    by_bin = np.where(levels < 500, 2.0, 6.0)
    np.testing.assert_allclose(found.samples, losses.samples * by_bin, rtol=1e-5)


def test_every_text_of_an_image_is_asked_once_at_the_same_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, asked = tiny_diffusion(), []
    monkeypatch.setattr(
        model.denoiser.network,
        "forward",
        lambda x_t, times, states, mask: (
            asked.extend(zip(times.tolist(), x_t[:, 0, 0, 0].tolist(), strict=True))
            or torch.zeros_like(x_t)
        ),
    )
    DiffusionScorer(model, num_samples=5).score([GRID])
    assert len(asked) == 2 * 4 * 5
    assert len(set(asked)) == 2 * 5  # one x_t for each image and pair


def test_pairing_makes_differences_of_texts_less_noisy() -> None:
    means = np.random.default_rng(0).normal(size=(2, 16)) * 0.3
    model = gaussian_diffusion(means, np.ones((2, 16)), build_schedule("cosine"), "epsilon")
    texts = [class_text(0), class_text(1)]
    [scores] = DiffusionScorer(model, num_samples=256).score(
        [Grid(item_id="a", images=[picture_of(means[0])], texts=texts)]
    )
    first, second = scores.samples[0].astype(np.float64)
    shuffled = second[np.random.default_rng(0).permutation(256)]
    assert (first - second).std() < 0.3 * (first - shuffled).std()


def test_grids_are_scored_as_alone_however_they_are_put_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = DiffusionScorer(tiny_diffusion(), num_samples=4)
    grids = [GRID, Grid(item_id="b", images=IMAGES[2:], texts=TEXTS[:1]), replace(GRID, images=[])]
    together = scorer.score(grids)
    alone = [scores for grid in grids for scores in scorer.score([grid])]
    monkeypatch.setattr(diffusion, "_ROWS_TOGETHER", 1)
    monkeypatch.setattr(paired_errors, "_KEPT_NUMBERS", 1)
    apart = scorer.score(grids)
    for a, b, c, grid in zip(together, alone, apart, grids, strict=True):
        assert a.samples.shape == (len(grid.images), len(grid.texts), 4)
        # Sums of float32 in another order, whose last digits a processor chooses.
        np.testing.assert_allclose(a.samples, b.samples, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a.samples, c.samples, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a.values, a.samples.mean(2), atol=1e-6)


def test_what_changes_a_score_changes_the_fingerprint_and_nothing_else() -> None:
    model = tiny_diffusion()
    settings = [
        {}, {"method": "absolute_error"}, {"method": "elbo"}, {"num_samples": 8}, {"seed": 1},
        {"spread": "even"}, {"precision": "bfloat16"},
    ]  # fmt: skip
    prints = [DiffusionScorer(model, **s).info.fingerprint for s in settings]
    prints.append(DiffusionScorer(tiny_diffusion(seed=1)).info.fingerprint)
    assert len(set(prints)) == len(prints)
    kept = DiffusionScorer(model, keep_samples=False)
    assert kept.info.fingerprint == prints[0]
    assert kept.score([GRID])[0].samples is None


def test_bfloat16_is_near_float32() -> None:
    model = tiny_diffusion()
    exact, rough = (
        DiffusionScorer(model, num_samples=4, precision=p).score([GRID])[0].values
        for p in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


class FixedNetwork(nn.Module):
    """The same number everywhere, whatever is asked."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x_t: Tensor, times: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        return self.value.expand_as(x_t)


def with_network(value: float) -> DiffusionModel:
    model = tiny_diffusion()
    return replace(model, denoiser=Denoiser(FixedNetwork(value), model.denoiser.text_encoder))


@pytest.mark.parametrize("method", ["squared_error", "absolute_error", "elbo"])
def test_a_network_that_ignores_the_text_leaves_all_classes_tied(method: DiffusionMethod) -> None:
    scorer = DiffusionScorer(with_network(0.1), method, num_samples=3)
    [scores] = scorer.score([GRID])
    assert (scores.values == scores.values[:, :1]).all()
    posterior = classify(scorer, IMAGES[:2], ["cat", "dog"])
    np.testing.assert_allclose(posterior.log_probs, np.log(0.5))


def test_a_prediction_that_is_no_number_is_an_error() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ModelError, match="NaN or infinity"):
            DiffusionScorer(with_network(value), num_samples=2).score([GRID])


def test_timesteps_outside_of_the_schedule_are_an_error() -> None:
    model = tiny_diffusion(num_levels=10)
    for level in (-1, 10):
        pairs = NoisePairs(np.array([3, level]), 0)
        with pytest.raises(ConfigError, match="outside of the schedule's 0 to 9"):
            PairedErrors(model, IMAGES[:1], ["a"], pairs)


def test_what_cannot_be_scored_is_refused() -> None:
    model = tiny_diffusion()
    with pytest.raises(ConfigError, match="at least 1 sample"):
        DiffusionScorer(model, num_samples=0)
    with pytest.raises(ConfigError, match="go with the method learned"):
        DiffusionScorer(model, "learned")
    with pytest.raises(ConfigError, match="take nested ones, or 1000 samples"):
        DiffusionScorer(model, "elbo", spread="even", num_samples=500)
    other = TimestepWeights(model="x", weights=(1.0,), num_images=1, num_samples=1)
    with pytest.raises(ConfigError, match="fitted on another model"):
        DiffusionScorer(model, "learned", weights=other)
    with pytest.raises(TokenError):
        DiffusionScorer(model).score([replace(GRID, texts=["red " * 100])])


def test_the_bound_of_all_even_levels_is_their_sum() -> None:
    scorer = DiffusionScorer(tiny_diffusion(num_levels=8), "elbo", spread="even", num_samples=8)
    assert sorted(scorer.pairs.levels) == list(range(8))


def test_templates_of_a_class_are_averaged_as_losses_and_bounds_as_probabilities() -> None:
    model = tiny_diffusion()
    templates, classes = ["{}", "a {} on a page"], ["red bar", "blue disc"]
    for method in ("squared_error", "elbo"):
        scorer = DiffusionScorer(model, method, num_samples=2)
        found = classify(scorer, IMAGES[:1], classes, templates=templates).log_likelihoods
        one = [classify(scorer, IMAGES[:1], classes, templates=[t]).log_likelihoods
               for t in templates]  # fmt: skip
        mean = np.mean(one, 0) if method == "squared_error" else np.logaddexp(*one) - np.log(2)
        np.testing.assert_allclose(found, mean, rtol=1e-6)

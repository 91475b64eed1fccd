"""Samplers of diffusion models, on data whose optimal denoiser is known in closed form."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genvlm.errors import ConfigError, GenerationError, GuidanceWarning, ModelError
from genvlm.generation.diffusion import (
    Sampler,
    SamplerSettings,
    build_scheduler,
    sample_images,
    sample_latents,
    visited_levels,
)
from genvlm.generation.sampling import row_generators
from genvlm.models.diffusion.model import Denoiser, DiffusionModel
from genvlm.models.diffusion.schedule import NoiseSchedule, Prediction, build_schedule

SHAPE = (3, 4, 4)
MEANS = {"": 0.0, "low": -0.5, "high": 0.75}
STD = 0.25


class Pixels:
    """Latents that are the pixels themselves."""

    shape = SHAPE
    fingerprint = "pixels"

    def encode(self, images):
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1

    def decode(self, latents):
        scaled = ((latents.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return scaled.permute(0, 2, 3, 1).numpy()


class Numbers:
    """A text's piece is its number in MEANS."""

    fingerprint = "numbers"

    def encode(self, texts):
        pieces = torch.tensor([[list(MEANS).index(text)] for text in texts])
        return pieces, torch.ones_like(pieces, dtype=torch.bool)


class MeanOfText(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor(list(MEANS.values())))

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        return self.means[pieces][..., None]


class Optimal(nn.Module):
    """The best prediction where each text's pictures are N(mean, STD^2), noted call by call."""

    def __init__(self, schedule: NoiseSchedule, prediction: Prediction) -> None:
        super().__init__()
        self.schedule, self.prediction = schedule, prediction
        self.calls: list[tuple[float, list[float]]] = []

    def forward(self, x_t: Tensor, times: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        means = states[:, 0, 0]
        self.calls.append((times[0].item(), means.tolist()))
        level = int(np.argmin(abs(self.schedule.times - times[0].item())))  # of the whole batch
        alpha, sigma = self.schedule.alphas[level], self.schedule.sigmas[level]
        mu = means.view(-1, 1, 1, 1)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        clean = mu + gain * (x_t - alpha * mu)
        noise = sigma / (alpha**2 * STD**2 + sigma**2) * (x_t - alpha * mu)
        if self.prediction == "epsilon":
            return noise
        return noise - clean if self.prediction == "flow" else alpha * noise - sigma * clean


def gaussian_model(
    kind="linear", prediction: Prediction = "epsilon", *, num_levels=1000, condition_dropout=0.1
) -> DiffusionModel:
    schedule = build_schedule(kind, num_levels)
    return DiffusionModel(
        denoiser=Denoiser(Optimal(schedule, prediction), MeanOfText()),
        schedule=schedule,
        prediction=prediction,
        latents=Pixels(),
        texts=Numbers(),
        condition_dropout=condition_dropout,
        fingerprint="gaussian",
    )


CASES: list[tuple[str, Prediction, Sampler]] = [
    ("linear", "epsilon", "ddim"),
    ("scaled_linear", "v_prediction", "ddim"),
    ("linear", "flow", "ddim"),
    ("linear", "v_prediction", "dpm-solver++"),
    ("cosine", "epsilon", "dpm-solver++"),
    ("scaled_linear", "epsilon", "euler"),
    ("cosine", "v_prediction", "euler"),
    ("flow", "flow", "flow-euler"),
    ("flow", "v_prediction", "flow-euler"),
]


@pytest.mark.parametrize(("kind", "prediction", "sampler"), CASES)
def test_samples_of_gaussian_data_have_its_mean_and_deviation(kind, prediction, sampler) -> None:
    model = gaussian_model(kind, prediction)
    settings = SamplerSettings(sampler=sampler, num_steps=200 if "dpm" in sampler else 1000)
    x = sample_latents(model, ["high"] * 100, settings, seed=1, batch_size=100).double().flatten()
    error = STD / len(x) ** 0.5
    assert abs(x.mean() - MEANS["high"]) < 4 * error
    assert abs(x.std() - STD) < 4 * error / 2**0.5


@pytest.mark.parametrize(("kind", "prediction", "sampler"), CASES)
def test_more_steps_come_closer_to_where_the_probability_flow_leads(
    kind, prediction, sampler
) -> None:
    """For Gaussian data the flow is linear: it keeps each value's distance in deviations."""
    model = gaussian_model(kind, prediction)
    noise = torch.stack([torch.randn(SHAPE, generator=g) for g in row_generators(3, 2)])
    alpha, sigma = model.schedule.alphas[-1], model.schedule.sigmas[-1]
    expected = (noise - alpha * MEANS["low"]) / (alpha**2 * STD**2 + sigma**2) ** 0.5
    errors = []
    for num_steps in (60, 120, 240):
        settings = SamplerSettings(sampler=sampler, num_steps=num_steps)
        found = (sample_latents(model, ["low"] * 2, settings, seed=3) - MEANS["low"]) / STD
        errors.append((found - expected).abs().max().item())
    assert errors[2] < (0.005 if "dpm" in sampler else 0.2)
    rounding = 0.001
    assert errors[2] < max(0.6 * errors[1], rounding)
    assert errors[1] < max(0.7 * errors[0], rounding)


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++", "euler", "flow-euler"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 33, 50])
def test_every_number_of_steps_visits_so_many_levels_from_the_noisiest(sampler, num_steps) -> None:
    model = gaussian_model("flow" if sampler == "flow-euler" else "cosine", "flow", num_levels=50)
    sample_latents(model, ["low"], SamplerSettings(sampler=sampler, num_steps=num_steps), seed=0)
    times = [time for time, _ in model.denoiser.network.calls]
    expected = model.schedule.times[visited_levels(50, num_steps)]
    np.testing.assert_allclose(times, expected, rtol=1e-6)
    assert times[0] == pytest.approx(model.schedule.times[-1])
    assert len(set(times)) == num_steps


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++", "euler"])
@pytest.mark.parametrize("num_steps", [3, 30, 999])
@pytest.mark.parametrize("kind", ["scaled_linear", "cosine"])
def test_a_scheduler_has_the_noise_of_the_schedule_at_the_visited_levels(
    kind, num_steps, sampler
) -> None:
    """Also where betas, which diffusers keeps in float32, would round to 1."""
    schedule = build_schedule(kind, 1000)
    levels = visited_levels(1000, num_steps)
    scheduler = build_scheduler(schedule, sampler, levels)
    assert [int(t) for t in scheduler.timesteps] == list(range(num_steps - 1, -1, -1))
    bars = schedule.alphas[levels] ** 2
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy()[::-1], bars, rtol=1e-6)
    if sampler != "ddim":
        ratios = (1 / bars - 1) ** 0.5
        np.testing.assert_allclose(scheduler.sigmas[:-1].numpy(), ratios, rtol=1e-3)


def test_the_default_sampler_follows_the_schedule() -> None:
    for kind, sampler in (("linear", "ddim"), ("flow", "flow-euler")):
        chosen, named = (
            sample_latents(
                gaussian_model(kind, "flow"), ["low"],
                SamplerSettings(sampler=s, num_steps=5), seed=0,
            )
            for s in (None, sampler)
        )  # fmt: skip
        assert torch.equal(chosen, named)


def test_a_row_is_the_same_in_any_batch_size() -> None:
    prompts = ["low", "high", "low", "", "high"]
    model = gaussian_model()
    settings = SamplerSettings(num_steps=5, guidance_scale=2.0)
    one, two, five = (
        sample_latents(model, prompts, settings, seed=7, batch_size=n) for n in (1, 2, 5)
    )
    torch.testing.assert_close(one, five, atol=1e-5, rtol=0)
    torch.testing.assert_close(two, five, atol=1e-5, rtol=0)
    first = sample_latents(model, prompts[:3], settings, seed=7)
    torch.testing.assert_close(first, five[:3], atol=1e-5, rtol=0)
    assert not torch.allclose(five[0], five[2], atol=0.01)  # one prompt, two streams


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_row_is_the_same_on_any_device() -> None:
    settings = SamplerSettings(num_steps=10, guidance_scale=2.0)
    for kind, prediction in (("cosine", "v_prediction"), ("flow", "flow")):
        model = gaussian_model(kind, prediction)
        here, there = (
            sample_latents(model.to(device), ["low", "high"], settings, seed=7)
            for device in ("cpu", "cuda")
        )
        torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=0)


def test_a_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    model = gaussian_model()
    settings = SamplerSettings(num_steps=4)
    a, b, c = (sample_images(model, ["low", "high"], settings, seed=s) for s in (0, 0, 1))
    assert a.shape == (2, 4, 4, 3)
    assert a.dtype == np.uint8
    assert (a == b).all()
    assert (a != c).any()
    assert a[1].mean() > a[0].mean() + 50


def test_guidance_goes_beyond_the_text_by_its_scale() -> None:
    """The prediction is linear in the mean: at scale s a picture moves s times as far."""
    model = gaussian_model()
    plain, doubled, wide = (
        sample_latents(model, [text], SamplerSettings(num_steps=20, guidance_scale=s), seed=0)
        for text, s in (("low", 1.0), ("", 1.0), ("low", 3.0))
    )
    torch.testing.assert_close(wide - doubled, 3 * (plain - doubled), atol=1e-3, rtol=0)


def test_guidance_of_one_runs_no_unconditional_row() -> None:
    model = gaussian_model()
    calls = model.denoiser.network.calls
    sample_latents(model, ["low", "high"], SamplerSettings(num_steps=3), seed=0)
    assert [means for _, means in calls] == [[-0.5, 0.75]] * 3
    calls.clear()
    settings = SamplerSettings(num_steps=3, guidance_scale=1.5)
    sample_latents(model, ["low", "high"], settings, seed=0)
    assert [means for _, means in calls] == [[-0.5, 0.75, 0.0, 0.0]] * 3


def test_guidance_without_condition_dropout_warns() -> None:
    model = gaussian_model(condition_dropout=0.0)
    with pytest.warns(GuidanceWarning, match="without condition dropout"):
        sample_images(model, ["low"], SamplerSettings(num_steps=1, guidance_scale=2.0), seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_images(model, ["low"], SamplerSettings(num_steps=1), seed=0)


def test_progress_counts_the_steps_of_all_batches() -> None:
    told: list[tuple[int, int]] = []
    sample_latents(
        gaussian_model(), ["low"] * 3, SamplerSettings(num_steps=2), seed=0, batch_size=2,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("kind", "prediction", "settings", "said"),
    [
        ("linear", "epsilon", SamplerSettings(sampler="flow-euler"), "is no flow, use ddim"),
        ("flow", "flow", SamplerSettings(sampler="ddim"), "is a flow, use flow-euler"),
        ("flow", "flow", SamplerSettings(sampler="euler"), "is a flow, use flow-euler"),
        ("flow", "epsilon", SamplerSettings(), "takes no epsilon"),
        ("linear", "epsilon", SamplerSettings(num_steps=1001), "has 1000 levels"),
    ],
)
def test_what_a_schedule_does_not_allow_is_refused(kind, prediction, settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        sample_latents(gaussian_model(kind, prediction), ["low"], settings, seed=0)


def test_a_schedule_that_ends_without_signal_is_sampled_by_ddim_alone() -> None:
    plain = gaussian_model("linear", "v_prediction", num_levels=100)
    alphas = plain.schedule.alphas - plain.schedule.alphas[-1]
    schedule = NoiseSchedule(alphas, np.sqrt(1 - alphas**2), plain.schedule.times)
    denoiser = Denoiser(Optimal(schedule, "v_prediction"), MeanOfText())
    model = replace(plain, schedule=schedule, denoiser=denoiser)
    assert torch.isfinite(sample_latents(model, ["low"], SamplerSettings(), seed=0)).all()
    for sampler in ("euler", "dpm-solver++"):
        with pytest.raises(ConfigError, match="ends without signal, use ddim"):
            sample_latents(model, ["low"], SamplerSettings(sampler=sampler), seed=0)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"guidance_scale": float("nan")}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SamplerSettings(**wrong)


def test_no_prompt_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 prompts"):
        sample_images(gaussian_model(), [], SamplerSettings(), seed=0)


def test_a_prediction_that_is_no_number_is_an_error() -> None:
    model = gaussian_model()
    model.denoiser.text_encoder.means.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        sample_images(model, ["low"], SamplerSettings(), seed=0)


def test_guidance_that_leaves_the_range_of_numbers_is_an_error() -> None:
    for num_steps in (1, 2):  # at the end, or where the network reads them
        settings = SamplerSettings(num_steps=num_steps, guidance_scale=1e39)
        with pytest.raises(GenerationError, match="lower it"):
            sample_images(gaussian_model(), ["low"], settings, seed=0)

"""Stable Diffusion's parts against diffusers' own pipeline, on tiny random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genvlm.generation.diffusion import Sampler, SamplerSettings, sample_images, sample_latents
from genvlm.generation.sampling import row_generators
from genvlm.models.diffusion.model import DiffusionModel
from genvlm.models.diffusion.stable_diffusion import load_stable_diffusion
from genvlm.scoring.noise_pairs import draw_pairs
from genvlm.scoring.open import open_scorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_stable_diffusion import SIDE, write_tiny_stable_diffusion
from genvlm.tokenization.image import to_pixels

PROMPTS = ["a red square", "two bars!"]
AS_WE_STEP = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False}


@pytest.fixture(scope="module", params=["1.5", "2.1"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, DiffusionModel]:
    """A pipeline, and the same folder as we read it."""
    folder: Path = tmp_path_factory.mktemp("sd") / request.param
    pipeline = write_tiny_stable_diffusion(folder, request.param)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, load_stable_diffusion(folder)


def noise_of(num_rows: int, seed: int = 0) -> Tensor:
    streams = row_generators(seed, num_rows)
    return torch.stack([torch.randn(4, SIDE // 2, SIDE // 2, generator=g) for g in streams])


def prompt_states(pipeline: Any, texts: list[str]) -> Tensor:
    states: Tensor = pipeline.encode_prompt(texts, "cpu", 1, False)[0]
    return states


def test_predictions_are_those_of_the_unet(both: tuple[Any, DiffusionModel]) -> None:
    pipeline, model = both
    x_t = noise_of(2)
    for level in (0, 500, 999):
        found = model.predict(x_t, torch.tensor([level, 999]), model.read(PROMPTS))
        expected = pipeline.unet(
            x_t, torch.tensor([level, 999]), prompt_states(pipeline, PROMPTS)
        ).sample
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        assert found.std() > 0.05


def test_texts_are_read_with_their_padding(both: tuple[Any, DiffusionModel]) -> None:
    pipeline, model = both
    texts = ["", *PROMPTS]
    states = model.read(texts).states
    torch.testing.assert_close(states, prompt_states(pipeline, texts), atol=1e-6, rtol=0)


def test_the_schedule_is_that_of_the_scheduler(both: tuple[Any, DiffusionModel]) -> None:
    pipeline, model = both
    bars = pipeline.scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(model.schedule.alphas**2, bars, rtol=1e-4)
    assert model.prediction == pipeline.scheduler.config.prediction_type


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++", "euler"])
def test_samples_are_those_of_the_pipeline(
    both: tuple[Any, DiffusionModel], sampler: Sampler, guidance_scale: float
) -> None:
    import diffusers

    pipeline, model = both
    schedulers = {
        "ddim": diffusers.DDIMScheduler,
        "dpm-solver++": diffusers.DPMSolverMultistepScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
    }
    scheduler = schedulers[sampler].from_config(pipeline.scheduler.config, **AS_WE_STEP)
    steps = 20
    own, pipeline.scheduler = pipeline.scheduler, scheduler
    noise = noise_of(2, seed=5)
    if sampler == "euler":  # its noise is a hair under unit variance, ours of it
        scheduler.set_timesteps(steps)
        noise = noise * (scheduler.init_noise_sigma**2 + 1) ** 0.5 / scheduler.init_noise_sigma
    expected = pipeline(
        PROMPTS, latents=noise, num_inference_steps=steps, output_type="latent",
        guidance_scale=guidance_scale,
    ).images  # fmt: skip
    pipeline.scheduler = own
    chosen = SamplerSettings(sampler=sampler, num_steps=steps, guidance_scale=guidance_scale)
    found = sample_latents(model, PROMPTS, chosen, seed=5)
    assert (found - expected).abs().max() <= 1e-4
    assert expected.std() > 0.5


def test_pictures_are_those_of_the_pipeline(both: tuple[Any, DiffusionModel]) -> None:
    import diffusers

    pipeline, model = both
    own = pipeline.scheduler
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(own.config, **AS_WE_STEP)
    expected = pipeline(
        PROMPTS, latents=noise_of(2), num_inference_steps=5, output_type="np", guidance_scale=2.0
    ).images
    pipeline.scheduler = own
    found = sample_images(model, PROMPTS, SamplerSettings(num_steps=5, guidance_scale=2.0), seed=0)
    assert found.shape == (2, SIDE, SIDE, 3)
    assert np.abs(found - 255 * expected).max() < 1
    assert found.std() > 5


def test_pictures_are_encoded_as_the_mean_of_the_posterior(
    both: tuple[Any, DiffusionModel],
) -> None:
    pipeline, model = both
    pictures = [picture for _, picture in tiny_pairs()[:3]]
    assert pictures[0].shape == (SIDE, SIDE, 3)
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = pipeline.vae.encode(pixels).latent_dist.mode() * 0.18215
    found = model.latents.encode(pictures)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(found, model.latents.encode(pictures))


def test_a_pipeline_folder_scores_as_its_own_parts_say(tmp_path: Path) -> None:
    """The published classifier, from `open_scorer`, beside the UNet asked by hand."""
    pipeline = write_tiny_stable_diffusion(tmp_path / "sd", "1.5")
    scorer: Any = open_scorer(tmp_path / "sd", "squared_error", num_samples=3, seed=1)
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    texts = ["a cat", "a dog"]
    [scores] = scorer.score([Grid(item_id="a", images=[picture], texts=texts)])
    pairs = draw_pairs(3, len(pipeline.scheduler.alphas_cumprod), 1)
    with torch.no_grad():
        pixels = to_pixels(picture[None])
        mean = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
        noise = pairs.noise(np.arange(3), mean.shape[1:])
        levels = torch.from_numpy(pairs.levels)
        x_t = pipeline.scheduler.add_noise(mean.expand(3, -1, -1, -1), noise, levels)
        for column, text in enumerate(texts):
            states = pipeline.encode_prompt(text, "cpu", 3, False)[0]
            predicted = pipeline.unet(x_t, levels, states).sample
            expected = -(predicted - noise).square().mean((1, 2, 3))
            np.testing.assert_allclose(scores.samples[0, column], expected, atol=1e-5)
    assert scorer.info.unit == "reweighted_loss"

"""Pictures of a diffusion model: from noise to latents through a scheduler of diffusers.

B batch, C H W of a latent, S steps. A scheduler here knows the S levels that are visited and no
other, so that each step ends where the next begins, whatever S is. It is given the clean latent
that a prediction stands for, so that all kinds of prediction sample alike.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genvlm.errors import ConfigError, GenerationError, GuidanceWarning, ModelError
from genvlm.generation.sampling import row_generators
from genvlm.models.diffusion.model import Conditioning, DiffusionModel
from genvlm.models.diffusion.schedule import NoiseSchedule
from genvlm.models.foreign import import_diffusers

Sampler = Literal["ddim", "dpm-solver++", "euler", "flow-euler"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How to go from noise to a picture; every sampler is deterministic once the noise is drawn.

    ddim: Song et al. 2021 with eta 0. dpm-solver++: second order, multistep (Lu et al. 2022).
    euler: of the probability flow over sigma / alpha (Karras et al. 2022). flow-euler: of flows.
    """

    sampler: Sampler | None = None
    """None: ddim, or flow-euler where the schedule is a flow."""
    num_steps: int = 50
    """Evaluations of the network; a guided picture takes twice as many."""
    guidance_scale: float = 1.0
    """Classifier-free guidance (Ho and Salimans 2022); 1 runs no unconditional row."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ConfigError(f"num_steps is {self.num_steps}: it must be at least 1")
        if not math.isfinite(self.guidance_scale):
            raise ConfigError(f"guidance_scale is {self.guidance_scale}: it must be finite")


def sample_images(
    model: DiffusionModel,
    prompts: Sequence[str],
    settings: SamplerSettings,
    *,
    seed: int,
    batch_size: int = 16,
    progress: Progress = lambda done, total: None,
) -> UInt8[np.ndarray, "prompts height width 3"]:
    """One picture of each prompt; arguments and errors are those of `sample_latents`."""
    batches = _batches(model, prompts, settings, seed, batch_size, progress)
    return np.concatenate([model.latents.decode(latents.cpu()) for latents in batches])


def sample_latents(
    model: DiffusionModel,
    prompts: Sequence[str],
    settings: SamplerSettings,
    *,
    seed: int,
    batch_size: int = 16,
    progress: Progress = lambda done, total: None,
) -> Float[Tensor, "prompts c h w"]:
    """One latent of each prompt, float32, on the model's device.

    The noise of row i comes from a random stream of its own, of (seed, i), on the CPU: a row is the
    same in any batch size and on any device, up to rounding.

    Args:
        progress: is told the steps done, over all batches, and how many there are.

    Raises:
        ConfigError: no prompt, a sampler that the schedule does not allow, more steps than levels.
        TokenError: a prompt is longer than the text encoder takes.
        ModelError: the network predicts NaN or infinity.
        GenerationError: guidance drives the latents to infinity.
    """
    return torch.cat(list(_batches(model, prompts, settings, seed, batch_size, progress)))


def visited_levels(num_levels: int, num_steps: int) -> Int[np.ndarray, " steps"]:
    """Evenly spaced levels, from the last one down.

    "Trailing" of Lin et al. 2024 (arXiv 2305.08891, table 2): the first is the noisiest there is.
    """
    ends = np.arange(num_steps, 0, -1) * num_levels / num_steps
    levels: Int[np.ndarray, " steps"] = ends.round().astype(np.int64) - 1
    return levels


def _batches(
    model: DiffusionModel,
    prompts: Sequence[str],
    settings: SamplerSettings,
    seed: int,
    batch_size: int,
    progress: Progress,
) -> Iterator[Float[Tensor, "batch c h w"]]:
    """Latents of one batch after the other."""
    if not prompts or batch_size < 1:
        raise ConfigError(f"{len(prompts)} prompts in batches of {batch_size}: both are at least 1")
    sampler = _choose_sampler(model, settings)
    if settings.guidance_scale != 1 and model.condition_dropout == 0:
        warnings.warn(
            "this model was trained without condition dropout: it never learned images without "
            "their text, so that guidance steers away from something arbitrary; scale 1 is safe",
            GuidanceWarning,
            stacklevel=4,
        )
    starts = range(0, len(prompts), batch_size)
    total = len(starts) * settings.num_steps
    for number, start in enumerate(starts):
        part = prompts[start : start + batch_size]
        streams = row_generators(seed, len(part), start)
        noise = torch.stack([torch.randn(model.latents.shape, generator=g) for g in streams])
        done = partial(_tell, progress, number * settings.num_steps, total)
        yield _denoise(model, part, noise.to(model.device), sampler, settings, done)


def _tell(progress: Progress, before: int, total: int, step: int) -> None:
    progress(before + step, total)


def _denoise(
    model: DiffusionModel,
    prompts: Sequence[str],
    noise: Float[Tensor, "batch c h w"],
    sampler: Sampler,
    settings: SamplerSettings,
    done: Callable[[int], None],
) -> Float[Tensor, "batch c h w"]:
    """From noise to clean latents."""
    conditioning = _read(model, prompts, guided=settings.guidance_scale != 1)
    levels = visited_levels(len(model.schedule), settings.num_steps)
    scheduler = build_scheduler(model.schedule, sampler, levels)
    scaled = sampler != "flow-euler"  # the others may count in x / alpha, where x_t has no bound
    x = noise * scheduler.init_noise_sigma if scaled else noise
    for step, (time, level) in enumerate(zip(scheduler.timesteps, levels.tolist(), strict=True)):
        x_t = scheduler.scale_model_input(x, time) if scaled else x
        rows = torch.full((len(x_t),), level)
        try:
            predicted = _predict(model, x_t, level, conditioning, settings.guidance_scale)
        except ModelError:
            if step and settings.guidance_scale != 1:  # the noise it read, and then no longer
                raise _driven_away(settings) from None
            raise
        clean = model.schedule.denoised(x_t, predicted, rows, model.prediction)
        output = clean if scaled else (x_t - clean) / model.schedule.sigmas[level]
        x = scheduler.step(output, time, x, return_dict=False)[0]
        done(step + 1)
    if not torch.isfinite(x).all():
        raise _driven_away(settings)
    return x


def _driven_away(settings: SamplerSettings) -> GenerationError:
    return GenerationError(
        f"the latents became too large at guidance scale {settings.guidance_scale}: lower it"
    )


def _read(model: DiffusionModel, prompts: Sequence[str], *, guided: bool) -> Conditioning:
    """What the network reads: a row of each prompt, and, guided, as many rows of nothing."""
    texts = list(dict.fromkeys([*prompts, ""] if guided else prompts))
    rows = [texts.index(prompt) for prompt in prompts]
    if guided:
        rows += [texts.index("")] * len(prompts)
    return model.read(texts).take(torch.tensor(rows, device=model.device))


def _predict(
    model: DiffusionModel,
    x_t: Float[Tensor, "batch c h w"],
    level: int,
    conditioning: Conditioning,
    scale: float,
) -> Float[Tensor, "batch c h w"]:
    """u + s (c - u); both halves of the batch in one call."""
    if scale == 1:
        return model.predict(x_t, torch.full((len(x_t),), level), conditioning)
    both = torch.cat([x_t, x_t])
    predicted = model.predict(both, torch.full((len(both),), level), conditioning)
    conditional, unconditional = predicted.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def _choose_sampler(model: DiffusionModel, settings: SamplerSettings) -> Sampler:
    """The sampler to use. Raises ConfigError for one that the model does not allow."""
    schedule, num_steps = model.schedule, settings.num_steps
    is_flow = bool(np.allclose(schedule.alphas + schedule.sigmas, 1))
    sampler = settings.sampler or ("flow-euler" if is_flow else "ddim")
    if num_steps > len(schedule):
        raise ConfigError(f"num_steps is {num_steps}, and the schedule has {len(schedule)} levels")
    if (sampler == "flow-euler") != is_flow:
        kind, others = ("a flow", "flow-euler") if is_flow else ("no flow", "ddim")
        raise ConfigError(f"sampler {sampler}: the model's schedule is {kind}, use {others}")
    if not is_flow and not np.allclose(schedule.alphas**2 + schedule.sigmas**2, 1):
        raise ConfigError("only flows and variance-preserving schedules can be sampled")
    if schedule.alphas[-1] == 0:
        if model.prediction == "epsilon":
            raise ConfigError("a schedule that ends without signal takes no epsilon prediction")
        if sampler in ("euler", "dpm-solver++"):
            raise ConfigError(f"sampler {sampler}: the schedule ends without signal, use ddim")
    return sampler


def build_scheduler(
    schedule: NoiseSchedule, sampler: Sampler, levels: Int[np.ndarray, " steps"]
) -> Any:
    """diffusers' scheduler over these levels alone, which it counts from 0, the cleanest.

    It takes the clean latent, or noise - clean for flow-euler.
    """
    diffusers = import_diffusers()
    if sampler == "flow-euler":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=schedule.sigmas[levels].tolist())
        return scheduler
    bars = schedule.alphas[levels[::-1]] ** 2
    settings: dict[str, Any] = {
        "num_train_timesteps": len(levels),
        "trained_betas": 1 - bars / np.concatenate([[1.0], bars[:-1]]),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }
    if sampler == "ddim":
        scheduler = diffusers.DDIMScheduler(**settings, clip_sample=False)
    elif sampler == "dpm-solver++":
        scheduler = diffusers.DPMSolverMultistepScheduler(**settings)
    else:
        # "leading" begins at unit variance, as the network was trained; every level is visited.
        settings["timestep_spacing"] = "leading"
        scheduler = diffusers.EulerDiscreteScheduler(**settings)
    # Betas are float32 there: a last one of 1 - 1e-8, of few steps of a cosine, would become 1.
    scheduler.alphas_cumprod = torch.from_numpy(bars).float()
    scheduler.set_timesteps(len(levels))
    return scheduler

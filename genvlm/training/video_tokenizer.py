"""Training of a video tokenizer that is inflated from an image tokenizer.

By default image encoder and codebook stay as they are, so that first frames keep the codes of
pictures: what learns is how r frames become one frame of codes, and how codes become frames.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genvlm.config.video_tokenizer import ClipSource, VideoVQTrainConfig
from genvlm.data.augment import permute_channels
from genvlm.data.skipping import SkipBudget
from genvlm.data.sources import hash_sources, read_source
from genvlm.errors import DataError, TrainingError
from genvlm.nn.foreign_tensors import load_state
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.tokenization.image import fit_squares
from genvlm.tokenization.video_vqgan import PICTURE_CODES, VideoVQ
from genvlm.training.adversarial import build_optimizers, set_learning_rate
from genvlm.training.checkpoint import checkpoint_step
from genvlm.training.launch import check_alone
from genvlm.training.run_folder import claim_inputs, hold_run
from genvlm.training.tokenizer_steps import resume_state, run_tokenizer_steps

Videos = Tensor
"""Float (B, T, 3, H, W), pixels in [-1, 1]."""
Pool = Sequence[Sequence[np.ndarray]]
"""Clips of each source, uint8 (T, H, W, 3)."""
# Difference of a colour channel, in [-1, 1], from which a pixel counts as moving.
_MOVING = 0.1


@dataclass
class VideoVQState:
    """Everything that a checkpoint holds."""

    model: VideoVQ
    optimizers: list[torch.optim.Optimizer]
    step: int = 0

    def state_dict(self) -> dict[str, object]:
        """Tensors and plain numbers only, so that it loads with weights_only."""
        return {
            "model": self.model.state_dict(),
            "steps_unused": self.model.image.quantize.steps_unused,
            "optimizers": [o.state_dict() for o in self.optimizers],
        }

    def load(self, folder: Path) -> None:
        """Continue from a verified checkpoint folder."""
        state = load_state(folder / "state.pt")
        self.model.load_state_dict(state["model"])
        self.model.image.quantize.steps_unused.copy_(state["steps_unused"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = checkpoint_step(folder)


def train_video_vq(
    network: VideoVQ,
    config: VideoVQTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
    say: Callable[[str], None] = lambda message: None,
) -> VideoVQ:
    """Train an inflated network in place, on a GPU where there is one; checkpoints go to `out`.

    Raises:
        CheckpointError: `out` was started with another configuration, image tokenizer or data.
        DataError: a folder has no videos, or a damaged one, or one that is too short.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
        TrainingError: loss or gradient is not finite, bfloat16 is asked of a processor without it,
            `out` holds another run or is in use, or several processes were started.
    """
    check_alone("a video tokenizer")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = {
        "image tokenizer": fingerprint_tensors(network.image.state_dict()),
        "corpus": hash_sources(enumerate(config.sources), config.max_bad_share),
    }
    with hold_run(config, out, resume):
        claim_inputs(inputs, out)
        model = prepare(network, config).to(device)
        state = VideoVQState(model, build_optimizers(model, config.learning_rate))
        resume_state(state, out, resume, say)
        if state.step < config.num_steps:
            say("drawing the clips")
            skips = SkipBudget(
                config.max_bad_share,
                hint="or set max_bad_share, such as to 0.01, and so many are left out",
            )
            pool = load_pool(config.sources, network.config.image.resolution, skips)
            if skips.num_skipped:
                say(skips.summary())

            def step(generator: torch.Generator) -> dict[str, Tensor]:
                videos = sample_clips(pool, config, generator, device)
                return train_step(state, config, videos, generator)

            run_tokenizer_steps(state, config, out, step, on_step)
    return model.cpu()


def prepare(network: VideoVQ, config: VideoVQTrainConfig) -> VideoVQ:
    """The network with gradients for what is to be trained, and for nothing else."""
    network.train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(config.train_codes or not name.startswith(PICTURE_CODES))
    return network


def load_pool(sources: Sequence[ClipSource], size: int, skips: SkipBudget | None = None) -> Pool:
    """All clips of all sources as squares of `size` pixels, in memory: 12 kB a frame of 64x64.

    Args:
        skips: counts clips, and videos that are damaged or too short.

    Raises:
        DataError: a folder has no videos, or more damaged or too short ones than `skips` allows.
    """
    skips = skips or SkipBudget()
    pool: list[list[np.ndarray]] = []
    for number, source in enumerate(sources):
        of_source: list[np.ndarray] = []
        for reading in read_source(source, f"{number}-{source.kind}", skips):
            skips.keep()
            for clip in reading.visuals():
                of_source.append(fit_squares(clip, size))
        if not of_source:
            raise DataError(f"sources.{number} has no clip left: {skips.summary()}")
        pool.append(of_source)
    skips.finish()
    return pool


def sample_clips(
    pool: Pool, config: VideoVQTrainConfig, generator: torch.Generator, device: str = "cpu"
) -> Videos:
    """One training batch: parts of clips, half of them mirrored, half in other colours.

    The sources take turns, so that each has an equal share whatever its number of clips.
    """

    def draw(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    parts = []
    for number in range(config.batch_size):
        of_source = pool[number % len(pool)]
        clip = of_source[draw(len(of_source))]
        start = draw(len(clip) - config.num_frames + 1)
        parts.append(clip[start : start + config.num_frames])
    clips = torch.from_numpy(np.stack(parts)).to(device)
    pixels = clips.permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    mirrored = (torch.rand(len(pixels), generator=generator) < 0.5).to(device)
    pixels = torch.where(mirrored[:, None, None, None, None], pixels.flip(-1), pixels)
    # Frames below one another, so that a clip changes its colours as one picture.
    coloured = permute_channels(pixels.transpose(1, 2).flatten(2, 3), generator)
    coloured = coloured.unflatten(2, (config.num_frames, -1)).transpose(1, 2)
    kept = (torch.rand(len(pixels), generator=generator) < 0.5).to(device)
    return torch.where(kept[:, None, None, None, None], pixels, coloured)


def reconstruction_loss(
    decoded: Videos, videos: Videos, config: VideoVQTrainConfig
) -> tuple[Tensor, Tensor]:
    """Weighted L1 and L2, in which moving pixels count more, and the plain mean squared error.

    Weights have a mean of 1, so that a clip that moves much counts no more than others in sum.
    """
    moving = (videos[:, 1:] - videos[:, :-1]).abs().amax(2, keepdim=True) > _MOVING
    weights = 1 + config.motion_weight * F.pad(moving.float(), (0, 0, 0, 0, 0, 0, 1, 0))
    weights = weights / weights.mean()
    error = decoded - videos
    l1, l2 = (weights * error.abs()).mean(), (weights * error.square()).mean()
    return config.l1_weight * l1 + config.l2_weight * l2, error.square().mean()


def train_step(
    state: VideoVQState, config: VideoVQTrainConfig, videos: Videos, generator: torch.Generator
) -> dict[str, Tensor]:
    """One step on a batch.

    Returns:
        What is logged: loss, PSNR in dB, norm of the gradient, numbers of codes.

    Raises:
        TrainingError: loss or gradient is not finite; the weights are as before.
    """
    schedule = {"warmup_steps": config.warmup_steps, "num_steps": config.num_steps}
    set_learning_rate(state.optimizers, config.learning_rate, state.step, **schedule)
    model, quantizer = state.model, state.model.image.quantize
    bfloat16 = config.precision == "bfloat16"
    with torch.autocast(videos.device.type, torch.bfloat16, enabled=bfloat16):
        latents = model.encode_latents(videos)
        quantized = quantizer(latents.flatten(0, 1))
        straight = quantized.latents.unflatten(0, latents.shape[:2])
        decoded = model.decode_latents(straight).float()
    loss, squared = reconstruction_loss(decoded, videos, config)
    total = loss + config.commitment_weight * quantized.commitment_loss
    if config.train_codes:
        total = total + config.codebook_weight * quantized.codebook_loss
    model.zero_grad(set_to_none=True)
    total.backward()
    norm = nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), 1.0)
    if not math.isfinite(norm):
        raise TrainingError(
            f"loss or gradient is not finite at step {state.step}: lower learning_rate"
        )
    for optimizer in state.optimizers:
        optimizer.step()
    terms = {"loss": loss.detach(), "psnr": -10 * torch.log10(squared.detach() / 4)}
    terms |= {"grad_norm": norm, "codes_in_batch": torch.tensor(len(quantized.codes.unique()))}
    # No restarts in the last fifth, so that the decoder settles on a fixed codebook.
    if config.train_codes and state.step < 0.8 * config.num_steps:
        flat = latents.detach().flatten(0, 1)
        flat = F.normalize(flat, dim=1) if quantizer.l2_normalized else flat
        moved = quantizer.restart_unused(
            quantized.codes, flat, restart_after=config.restart_after, generator=generator
        )
        terms["restarted"] = torch.tensor(moved)
    return terms

"""Training of a VQ-GAN: an adaptive adversarial weight, restart of dead codes.

Order of a run: reconstruction alone; then the discriminator learns alone for a while; only then
does its gradient reach the generator, weighted so that it never outweighs reconstruction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genvlm.config.image_tokenizer import VQGANTrainConfig
from genvlm.data.augment import affine, flip, permute_channels, recolour
from genvlm.data.emoji import Vendor, load_drawings, split_concepts
from genvlm.data.scenes import render_scene, sample_scene
from genvlm.errors import TrainingError
from genvlm.nn.foreign_tensors import load_state
from genvlm.tokenization.image import to_pixels
from genvlm.tokenization.vqgan import VQGAN
from genvlm.training.checkpoint import checkpoint_step
from genvlm.training.launch import check_alone
from genvlm.training.muon import Muon
from genvlm.training.run_folder import hold_run
from genvlm.training.tokenizer_steps import resume_state, run_tokenizer_steps

Images = Tensor
"""Float (B, 3, H, W), pixels in [-1, 1]."""
PerceptualLoss = Callable[[Images, Images], Tensor]


@dataclass
class VQGANState:
    """Everything that a checkpoint holds."""

    model: VQGAN
    optimizers: list[torch.optim.Optimizer]
    """Of the model: AdamW, and Muon for the weights inside its blocks."""
    discriminator: nn.Module
    discriminator_optimizer: torch.optim.Optimizer
    step: int = 0

    def state_dict(self) -> dict[str, object]:
        """Tensors and plain numbers only, so that it loads with weights_only."""
        return {
            "model": self.model.state_dict(),
            "steps_unused": self.model.quantize.steps_unused,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load(self, folder: Path) -> None:
        """Continue from a verified checkpoint folder."""
        state = load_state(folder / "state.pt")
        self.model.load_state_dict(state["model"])
        self.model.quantize.steps_unused.copy_(state["steps_unused"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self.step = checkpoint_step(folder)


def train_vqgan(
    config: VQGANTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    perceptual: PerceptualLoss | None = None,
    initial: VQGAN | None = None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
    say: Callable[[str], None] = lambda message: None,
) -> VQGAN:
    """Train (or, from `initial`, fine-tune) an image tokenizer; checkpoints and log go to `out`.

    Args:
        perceptual: a differentiable distance of two batches in [-1, 1], added with weight one.

    Raises:
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
        TrainingError: loss or gradient is not finite, bfloat16 is asked of a processor without it,
            `out` holds another run or is in use, or several processes were started.
    """
    check_alone("an image tokenizer")
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16")
    with hold_run(config, out, resume):
        torch.manual_seed(config.seed)
        state = _build_state(config, initial)
        resume_state(state, out, resume, say)

        def step(generator: torch.Generator) -> dict[str, float]:
            images = sample_batch(config, generator)
            with autocast:
                return _train_step(state, config, images, perceptual, generator)

        run_tokenizer_steps(state, config, out, step, on_step)
    return state.model


def sample_batch(config: VQGANTrainConfig, generator: torch.Generator) -> Images:
    """One training batch: drawings of training families, some augmented, and composed scenes."""
    num_scenes = round(config.batch_size * config.scene_share)
    rng = np.random.default_rng(_draw(generator, 2**31))
    drawings = _training_drawings(config.vendors)
    picks = torch.randint(len(drawings), (config.batch_size - num_scenes,), generator=generator)
    images = flip(drawings[picks], generator)
    num_moved = round(len(images) * config.augment_share)
    images = torch.cat([affine(images[:num_moved], generator), images[num_moved:]])
    # Half keep their colours, whether moved or not.
    images[::4] = permute_channels(images[::4], generator)
    images[1::4] = recolour(images[1::4], generator)
    scenes = []
    for _ in range(num_scenes):
        scene = sample_scene(rng, three=0.3, counts=0.4)
        vendor = config.vendors[rng.integers(len(config.vendors))]
        scenes.append(render_scene(scene, vendor))
    batch = [images]
    if scenes:
        batch.append(to_pixels(np.stack(scenes)))
    pictures = torch.cat(batch)
    side = config.model.resolution
    if pictures.shape[-1] == side:
        return pictures
    # Antialiased, as Pillow scales pictures of another size for the finished tokenizer.
    scaled = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True)
    return scaled.clamp(-1, 1)


def _train_step(
    state: VQGANState,
    config: VQGANTrainConfig,
    images: Images,
    perceptual: PerceptualLoss | None,
    generator: torch.Generator,
) -> dict[str, float]:
    adversarial = config.adversarial
    phase = state.step - adversarial.start_step if adversarial.start_step >= 0 else -(10**9)
    schedule = {"warmup_steps": config.warmup_steps, "num_steps": config.num_steps}
    set_learning_rate(state.optimizers, config.learning_rate, state.step, **schedule)
    model = state.model
    latents = model.encode_latents(images)
    quantized = model.quantize(latents)
    reconstruction = model.decode_latents(quantized.latents).float()
    l1, l2 = F.l1_loss(reconstruction, images), F.mse_loss(reconstruction, images)
    loss = config.l1_weight * l1 + config.l2_weight * l2
    if perceptual is not None:
        loss = loss + perceptual(reconstruction, images)
    terms = {"l1": l1.item(), "psnr": -10 * np.log10(l2.item() / 4)}
    total = (
        loss
        + config.commitment_weight * quantized.commitment_loss
        + config.codebook_weight * quantized.codebook_loss
    )
    if phase >= 0:
        fooled = -state.discriminator(reconstruction).float().mean()
        weight = adversarial.weight * _adaptive_weight(model, loss, fooled)
        total = total + weight * fooled
        terms |= {"adversarial": fooled.item(), "adaptive_weight": weight.item()}
    if not torch.isfinite(total):
        raise TrainingError(f"the loss is not finite at step {state.step}: lower learning_rate")
    model.zero_grad(set_to_none=True)
    total.backward()
    terms["grad_norm"] = float(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
    if not math.isfinite(terms["grad_norm"]):
        raise TrainingError(f"the gradient is not finite at step {state.step}: lower learning_rate")
    for optimizer in state.optimizers:
        optimizer.step()
    # No restarts in the last fifth, so that the decoder settles on a fixed codebook.
    if state.step < 0.8 * config.num_steps:
        latents = F.normalize(latents, dim=1) if model.quantize.l2_normalized else latents
        terms["restarted"] = model.quantize.restart_unused(
            quantized.codes, latents, restart_after=config.restart_after, generator=generator
        )
    terms["codes_in_batch"] = len(quantized.codes.unique())
    if phase >= -adversarial.warmup_steps:
        terms["discriminator"] = _train_discriminator(state, config, images, reconstruction)
    return terms


def _train_discriminator(
    state: VQGANState, config: VQGANTrainConfig, images: Images, reconstruction: Images
) -> float:
    """One hinge-loss step on real against reconstructed pictures."""
    rate = config.adversarial.learning_rate
    schedule = {"warmup_steps": config.warmup_steps, "num_steps": config.num_steps}
    set_learning_rate([state.discriminator_optimizer], rate, state.step, **schedule)
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    real = state.discriminator(images).float()
    fake = state.discriminator(reconstruction.detach()).float()
    loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    loss.backward()
    state.discriminator_optimizer.step()
    return float(loss.item())


def _adaptive_weight(model: VQGAN, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
    """|gradient of reconstruction| / |gradient of the adversarial term| at the last layer."""
    last = model.get_parameter("decoder.conv_out.weight")
    of_reconstruction = torch.autograd.grad(reconstruction, last, retain_graph=True)[0]
    of_adversarial = torch.autograd.grad(adversarial, last, retain_graph=True)[0]
    return (of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)).clamp(0, 1e4).detach()


def _build_state(config: VQGANTrainConfig, initial: VQGAN | None) -> VQGANState:
    model = (initial or VQGAN(config.model)).train()  # says what to do where taming is missing
    from taming.modules.discriminator.model import NLayerDiscriminator, weights_init

    adversarial = config.adversarial
    discriminator = NLayerDiscriminator(
        input_nc=3, ndf=adversarial.channels, n_layers=adversarial.num_layers
    ).apply(weights_init)
    return VQGANState(
        model,
        build_optimizers(model, config.learning_rate),
        discriminator,
        torch.optim.Adam(discriminator.parameters(), adversarial.learning_rate, betas=(0.5, 0.9)),
    )


def build_optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for the layers at both ends, codes, norms, biases; Muon for what is inside blocks."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    inside = {n: p for n, p in trained.items() if p.dim() >= 2 and "block" in n}
    others = [p for n, p in trained.items() if n not in inside]
    return [
        torch.optim.AdamW(others, rate, betas=(0.9, 0.99), weight_decay=1e-4),
        Muon(inside.values(), lr=rate, weight_decay=1e-4),
    ]


def set_learning_rate(
    optimizers: list[torch.optim.Optimizer],
    peak: float,
    step: int,
    *,
    warmup_steps: int,
    num_steps: int,
) -> None:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < warmup_steps:
        factor = (step + 1) / warmup_steps
    else:
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        factor = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = float(peak * factor)


@cache
def _training_drawings(vendors: tuple[Vendor, ...]) -> Images:
    index = [c.index for c in split_concepts(held_out=False)]
    return torch.cat([to_pixels(load_drawings(v)[index]) for v in vendors])


def _draw(generator: torch.Generator, high: int) -> int:
    return int(torch.randint(high, (1,), generator=generator).item())

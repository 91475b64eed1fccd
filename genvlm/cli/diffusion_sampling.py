"""The options of diffusion samplers, and pictures drawn by them."""

import argparse
from pathlib import Path

from genvlm.cli.parsing import positive, progress_bar

# Pictures at once: at 512 x 512, guided, some GB in float32.
_BATCH = 8
DIFFUSION_OPTIONS = ("sampler", "num_steps")


def add_diffusion_options(parser: argparse.ArgumentParser) -> None:
    """Declare them; none has a value unless it is given."""
    group = parser.add_argument_group("diffusion models")
    group.add_argument(
        "--sampler", choices=("ddim", "dpm-solver++", "euler", "flow-euler"),
        help="default: ddim, or flow-euler where the model is a flow",
    )  # fmt: skip
    group.add_argument(
        "--num-steps", type=positive, help="evaluations of the network (default: 50)"
    )


def generate_pictures(arguments: argparse.Namespace) -> Path:
    """Draw and write what `genvlm generate` was asked of a diffusion model; returns the page."""
    from genvlm.generation.diffusion import SamplerSettings, sample_images
    from genvlm.models.diffusion.open import open_diffusion
    from genvlm.studies.samples import write_prompted

    settings = SamplerSettings(
        sampler=arguments.sampler,
        num_steps=arguments.num_steps or SamplerSettings.num_steps,
        guidance_scale=arguments.guidance_scale,
    )
    model = open_diffusion(arguments.model, arguments.device)
    prompts = [arguments.prompt] * arguments.num
    with progress_bar("generating") as bar:
        pictures = sample_images(
            model, prompts, settings, seed=arguments.seed, batch_size=_BATCH, progress=bar
        )
    return write_prompted(prompts, pictures, model.fingerprint, arguments.out)

"""Diffusion models from folders, whoever wrote them."""

from pathlib import Path

import torch

from genvlm.models.diffusion.folder import is_diffusion, load_diffusion
from genvlm.models.diffusion.model import DiffusionModel
from genvlm.models.diffusion.stable_diffusion import is_stable_diffusion, load_stable_diffusion


def holds_diffusion(folder: Path) -> bool:
    """Whether this is a diffusion model's folder, ours or a pipeline of diffusers."""
    return is_stable_diffusion(folder) or is_diffusion(folder)


def open_diffusion(folder: Path, device: str | torch.device = "cpu") -> DiffusionModel:
    """The model in either kind of folder. Raises CheckpointError, ConfigError as their loaders."""
    if is_stable_diffusion(folder):
        return load_stable_diffusion(folder, device)
    return load_diffusion(folder, device)

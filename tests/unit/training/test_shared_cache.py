"""Encoded pictures that several runs share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genvlm.testing.tiny import tiny_train_config
from genvlm.testing.tiny_auxiliary import tiny_masked_train_config
from genvlm.testing.tiny_diffusion import tiny_diffusion_train_config
from genvlm.testing.tiny_projector import tiny_projector_train_config
from genvlm.training.diffusion import train_diffusion
from genvlm.training.loop import train
from genvlm.training.masked import train_masked
from genvlm.training.projector import train_projector
from genvlm.training.steps import Progress


@pytest.mark.parametrize(
    ("train_one", "configure"),
    [
        (train, tiny_train_config),
        (train_diffusion, tiny_diffusion_train_config),
        (train_masked, tiny_masked_train_config),
        (train_projector, lambda folder: tiny_projector_train_config(folder, "genvlm")),
    ],
)
def test_runs_that_share_a_cache_encode_pictures_once(
    train_one: Callable[..., Path], configure: Callable[[Path], Any], tmp_path: Path
) -> None:
    config = configure(tmp_path)
    optimizer = replace(config.optimizer, warmup_steps=0)
    config = replace(config, num_steps=1, optimizer=optimizer)
    shared, encoded = tmp_path / "shared", list[int]()
    for seed in range(2):
        out, before = tmp_path / str(seed), len(encoded)
        progress = Progress(encode=lambda done, total: encoded.append(done))
        train_one(replace(config, seed=seed), out, progress=progress, cache=shared)
        assert not (out / "cache").exists()
        assert (len(encoded) > before) == (seed == 0)

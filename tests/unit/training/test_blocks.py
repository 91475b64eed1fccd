"""Activation checkpointing and compiling: the same numbers, and less memory with the first."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genvlm.config.training import TrainConfig
from genvlm.data.batches import Batch
from genvlm.errors import ConfigError
from genvlm.models.build import build_transformer
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.testing.tiny import tiny_train_config, tiny_transformer_config
from genvlm.testing.tiny_diffusion import NetworkKind, tiny_diffusion_train_config
from genvlm.training.blocks import checkpoint_blocks, compile_blocks, find_blocks
from genvlm.training.diffusion import prepare_diffusion
from genvlm.training.loop import train
from genvlm.training.objectives.next_token import NextTokenObjective

VOCABULARY = 40


def objective(dropout: float = 0.0, num_layers: int = 2) -> NextTokenObjective:
    config = replace(tiny_transformer_config(), dropout=dropout, num_layers=num_layers)
    return NextTokenObjective(build_transformer(config, VOCABULARY, seed=0), 1e-4)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(VOCABULARY, (2, 33), generator=generator)
    positions = torch.full((2, 33, 3), -1)
    return Batch(token_ids, token_ids % 2, positions, torch.ones(2, 33), 64.0)


def gradients(module: nn.Module, given: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    module.train()
    module(given).weighted_sum.backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=atol, rtol=atol, msg=name)


def saved_bytes(module: nn.Module, given: Any) -> int:
    """What the backward pass is kept for, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = module(given)
    total = sum(storage.nbytes() for storage in kept.values())
    assert losses.weighted_sum.requires_grad
    return total


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_blocks_have_the_same_gradients(dropout: float) -> None:
    plain, checkpointed = objective(dropout), objective(dropout)
    checkpoint_blocks(checkpointed)
    assert plain.state_dict().keys() == checkpointed.state_dict().keys()
    same(gradients(checkpointed, batch()), gradients(plain, batch()), 0.0)


def test_checkpointed_blocks_keep_their_inputs_alone() -> None:
    plain, checkpointed = objective(num_layers=6), objective(num_layers=6)
    checkpoint_blocks(checkpointed)
    kept, all_kept = saved_bytes(checkpointed, batch()), saved_bytes(plain, batch())
    assert kept < all_kept / 4
    # One more layer costs its input and nothing else.
    deeper = objective(num_layers=7)
    checkpoint_blocks(deeper)
    assert saved_bytes(deeper, batch()) - kept == 2 * 32 * 32 * 4


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_blocks_of_diffusion_networks_are_checkpointed_too(
    kind: NetworkKind, tmp_path: Path
) -> None:
    config = tiny_diffusion_train_config(tmp_path, kind)
    source, plain, *_ = prepare_diffusion(config, tmp_path / "cache")
    _, checkpointed, *_ = prepare_diffusion(config, tmp_path / "cache")
    checkpoint_blocks(checkpointed)
    assert len(find_blocks(plain)) >= 2
    (given,) = source.batch(0)
    assert saved_bytes(checkpointed, given) < saved_bytes(plain, given)
    same(gradients(checkpointed, given), gradients(plain, given), 1e-6)


def test_a_model_without_blocks_is_told() -> None:
    with pytest.raises(ConfigError, match="no lists of blocks"):
        checkpoint_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_a_checkpointed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    config = tiny_train_config(tmp_path / "data", num_steps=2)
    folders = [one_run(config, tmp_path / "plain")]
    folders.append(one_run(replace(config, activation_checkpointing=True), tmp_path / "less"))
    same(*(load_tensors(f / "model.safetensors") for f in folders), atol=0.0)


def one_run(config: TrainConfig, out: Path) -> Path:
    return train(config, out)


slow = pytest.mark.skipif(
    shutil.which("g++") is None or os.environ.get("GENVLM_SLOW_TESTS") != "1",
    reason="torch.compile on a CPU needs g++ and most of a minute: set GENVLM_SLOW_TESTS=1",
)


@slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns itself, and looks whether it may
@pytest.mark.parametrize("also", [None, checkpoint_blocks])
def test_compiled_blocks_have_the_same_gradients(also: Callable | None) -> None:
    """Of one layer: a first compilation takes most of the time."""
    plain, compiled = objective(num_layers=1), objective(num_layers=1)
    if also is not None:
        also(compiled)
    compile_blocks(compiled)
    same(gradients(compiled, batch()), gradients(plain, batch()), 1e-4)

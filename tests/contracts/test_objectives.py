"""What holds for the objective of every kind of model, at the first batches of a tiny run."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genvlm.config.contrastive import ContrastiveObjectiveConfig, MixtureTokensConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.masked import MaskedObjectiveConfig
from genvlm.nn.frozen import Frozen
from genvlm.studies.runs import PreparedRun, prepare_model
from genvlm.testing.tiny import tiny_train_config
from genvlm.testing.tiny_auxiliary import (
    tiny_coca_train_config,
    tiny_contrastive_train_config,
    tiny_masked_train_config,
)
from genvlm.testing.tiny_diffusion import tiny_diffusion_train_config
from genvlm.testing.tiny_projector import tiny_projector_train_config
from genvlm.training.engine import Engine
from genvlm.training.objectives.losses import Losses


def with_negatives(folder: Path) -> ModelTrainConfig:
    negatives = ContrastiveObjectiveConfig(negatives=True)
    return replace(tiny_contrastive_train_config(folder), objective=negatives)


def llip(folder: Path) -> ModelTrainConfig:
    config = tiny_contrastive_train_config(folder, "sigmoid")
    tokens = MixtureTokensConfig(num_tokens=2, num_heads=2)
    return replace(config, model=replace(config.model, mixture_tokens=tokens))


def one_masked(folder: Path) -> ModelTrainConfig:
    objective = MaskedObjectiveConfig(multimodal="one_masked")
    return replace(tiny_masked_train_config(folder), objective=objective)


KINDS: dict[str, Callable[[Path], ModelTrainConfig]] = {
    "mixed-modal transformer": tiny_train_config,
    "diffusion": tiny_diffusion_train_config,
    "CLIP": tiny_contrastive_train_config,
    "SigLIP": lambda folder: tiny_contrastive_train_config(folder, "sigmoid"),
    "NegCLIP": with_negatives,
    "Llip": llip,
    "FLAVA": tiny_masked_train_config,
    "MaskVLM's loss": one_masked,
    "CoCa": tiny_coca_train_config,
    "projector": lambda folder: tiny_projector_train_config(folder, "genvlm"),
    "projector of our CLIP": lambda folder: tiny_projector_train_config(folder, "llama", "own"),
    "Frozen": lambda folder: tiny_projector_train_config(folder, "gpt2", "small"),
    "BLIP-2's queries": lambda folder: tiny_projector_train_config(folder, projector="queries"),
}
_STEPS = 30


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS.keys())
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("run")
    return replace(request.param(folder), num_steps=_STEPS)


@pytest.fixture
def run(config: ModelTrainConfig, tmp_path: Path) -> PreparedRun:
    return prepare_model(config, tmp_path)


def losses_of(run: PreparedRun, step: int = 0, *, seed: int = 0) -> Losses:
    torch.manual_seed(seed)
    found = run.objective.train()(run.source.batch(step)[0])
    assert isinstance(found, Losses)
    return found


def test_losses_are_finite_sums_with_as_many_counts(run: PreparedRun) -> None:
    losses = losses_of(run)
    assert losses.weighted_sum.shape == ()
    assert losses.weighted_sum.isfinite()
    assert losses.terms.keys() == losses.counts.keys() != set()
    for name, term in losses.terms.items():
        assert term.isfinite(), name
        assert not term.requires_grad, name
        assert losses.counts[name] > 0 or term == 0, name  # such as of videos, where there is none
    assert sum(losses.counts.values()) > 0
    assert run.source.batch(0)[0].loss_denominator > 0
    for found in (*losses.means.values(), *losses.maxima.values()):
        assert not found.requires_grad


def test_every_weight_that_is_trained_gets_a_gradient_and_no_frozen_one(run: PreparedRun) -> None:
    losses_of(run).weighted_sum.backward()
    frozen = {
        id(parameter)
        for module in run.objective.modules()
        if isinstance(module, Frozen)
        for parameter in module.parameters()
    }
    for name, parameter in run.objective.named_parameters():
        if id(parameter) in frozen:
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_the_same_seed_gives_the_same_run(config: ModelTrainConfig, tmp_path: Path) -> None:
    one, other = (prepare_model(config, tmp_path / name) for name in ("one", "other"))
    for step in range(3):
        found = [losses_of(run, step, seed=step).weighted_sum.item() for run in (one, other)]
        assert found[0] == found[1]
    assert losses_of(one, 1).weighted_sum.item() != losses_of(one, 2).weighted_sum.item()


def test_steps_lower_the_loss(config: ModelTrainConfig, run: PreparedRun) -> None:
    engine = Engine(
        run.objective, config.optimizer, num_steps=_STEPS, precision="float32",
        grad_accum_steps=config.global_batch_size // config.micro_batch_size, seed=0,
    )  # fmt: skip

    def mean() -> float:
        found = [losses_of(run, step, seed=step) for step in range(_STEPS, _STEPS + 4)]
        batches = [run.source.batch(step)[0] for step in range(_STEPS, _STEPS + 4)]
        sums = [losses.weighted_sum.item() for losses in found]
        return sum(sums) / sum(float(batch.loss_denominator) for batch in batches)

    with torch.no_grad():
        before = mean()
    for step in range(_STEPS):
        assert not engine.train_step(step, run.source.batch(step)).skipped
    with torch.no_grad():
        after = mean()
    assert math.isfinite(after)
    assert after < 0.95 * before

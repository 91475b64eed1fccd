"""Counted training compute, against products written out by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from genvlm.config.image_encoder import VQPatchesConfig
from genvlm.errors import ConfigError
from genvlm.studies.flops import count_flops, training_flops
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_train_config
from genvlm.testing.tiny_auxiliary import (
    tiny_coca_train_config,
    tiny_contrastive_train_config,
    tiny_masked_train_config,
)
from genvlm.testing.tiny_diffusion import tiny_diffusion_train_config
from genvlm.testing.tiny_projector import tiny_projector_train_config
from genvlm.training.caption_run import CaptionTrainConfig
from genvlm.training.projector import prepare_projector


def test_a_diffusion_step_is_about_three_forward_passes(tmp_path: Path) -> None:
    config = tiny_diffusion_train_config(tmp_path)
    found = training_flops(config)
    forward = found.per_row * config.global_batch_size
    # The backward pass repeats each product for inputs and for weights; what reads the picture and
    # the pieces has no gradient of its input.
    assert 2 * forward < found.per_step <= 3.5 * forward
    assert found.num_parameters > 1000


def test_every_matrix_product_of_a_transformer_is_counted(tmp_path: Path) -> None:
    config = tiny_train_config(tmp_path)
    one = training_flops(config)
    model = config.model
    wider = training_flops(
        replace(config, model=replace(model, intermediate_size=2 * model.intermediate_size))
    )
    # A SwiGLU has three matrices of hidden x intermediate: each number is used in forward once and
    # in backward twice, a product and a sum each time.
    weights = 3 * model.hidden_size * model.intermediate_size * model.num_layers
    assert wider.num_parameters - one.num_parameters == weights
    num_tokens = (wider.per_step - one.per_step) / (6 * weights)
    assert num_tokens == pytest.approx(round(num_tokens * 10) / 10)  # a mean over ten batches
    assert num_tokens > config.global_batch_size


@pytest.mark.parametrize(
    "recipe",
    [tiny_contrastive_train_config, tiny_coca_train_config, tiny_masked_train_config],
    ids=["contrastive", "coca", "masked"],
)
def test_steps_on_captions_are_about_three_forward_passes(
    recipe: Callable[[Path], CaptionTrainConfig], tmp_path: Path
) -> None:
    config = recipe(tmp_path)
    found = training_flops(config)
    forward = found.per_row * config.global_batch_size
    assert 2 * forward < found.per_step <= 3.5 * forward
    assert found.num_parameters > 1000


def test_frozen_weights_cost_no_gradient_of_their_own(tmp_path: Path) -> None:
    """The backward pass goes through a frozen language model for its inputs alone."""
    config = tiny_projector_train_config(tmp_path)
    found = training_flops(config)
    # Two linear layers, from 8 channels of a cell to width 16.
    assert found.num_parameters == 8 * 16 + 16 + 16 * 16 + 16
    run = prepare_projector(config, None)
    (batch,) = run.source.batch(0)
    frozen = count_flops(run.objective, batch, backward=True)
    assert frozen == pytest.approx(found.per_step, rel=0.01)
    language = run.objective.language_model.requires_grad_(True)
    matrices = sum(
        p.numel() for n, p in language.named_parameters() if "layers" in n and p.dim() > 1
    )
    thawed = count_flops(run.objective, batch, backward=True)
    rows, tokens = batch.token_ids.shape
    assert thawed - frozen >= 2 * matrices * rows * (tokens - 1) > 10**5


def test_an_image_encoder_that_is_trained_counts_as_trained(tmp_path: Path) -> None:
    config = tiny_projector_train_config(tmp_path, patches="small", projector="linear")
    run = prepare_projector(config, None)
    seeing, speaking = (
        sum(p.numel() for p in part.parameters())
        for part in (run.objective.image_encoder, run.objective.language_model)
    )
    assert training_flops(config).num_parameters == seeing + 16 * 16 + 16
    assert training_flops(config).num_frozen == speaking


def test_a_frozen_encoder_of_any_family_counts_as_frozen(tmp_path: Path) -> None:
    config = tiny_contrastive_train_config(tmp_path)
    assert training_flops(config).num_frozen == 0
    tokenizer = tiny_image_tokenizer()
    tokenizer.save(tmp_path / "image")
    frozen = VQPatchesConfig(path=str(tmp_path / "image"))
    found = training_flops(replace(config, model=replace(config.model, image_encoder=frozen)))
    assert found.num_frozen == sum(p.numel() for p in tokenizer.network.parameters())


def test_other_recipes_are_refused() -> None:
    with pytest.raises(ConfigError, match="only training of models is counted"):
        training_flops(object())

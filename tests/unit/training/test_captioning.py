"""The objective of projectors: what it adds up, what it trains, and what must stay frozen."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.training import OptimizerConfig
from genvlm.errors import ConfigError, TrainingError
from genvlm.nn.safetensors_folder import fingerprint_tensors, load_into
from genvlm.testing.tiny_projector import (
    LanguageKind,
    PatchKind,
    ProjectorKind,
    tiny_projector_train_config,
)
from genvlm.training.engine import Engine
from genvlm.training.frozen import check_frozen
from genvlm.training.objectives.captioning import fingerprint_frozen
from genvlm.training.projector import ProjectorRun, prepare_projector


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ProjectorTrainConfig:
    return tiny_projector_train_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run(config: ProjectorTrainConfig) -> ProjectorRun:
    return prepare_projector(config, None)


def engine_of(run: ProjectorRun, config: ProjectorTrainConfig, accum: int = 1) -> Engine:
    return Engine(
        run.objective, config.optimizer, num_steps=4, precision="float32", grad_accum_steps=accum
    )


def test_the_loss_is_that_of_caption_tokens_and_the_end(run: ProjectorRun) -> None:
    """Row by row, written out: nothing of the picture, the begin or the padding is in it."""
    (batch,) = run.source.batch(0)
    lengths = batch.loss_weights.sum(1)
    assert len(lengths.unique()) == 1
    short = replace(batch, token_ids=batch.token_ids.clone(), loss_weights=batch.loss_weights * 1)
    short.token_ids[0, -3:] = 0  # a shorter caption, padded
    short.token_ids[0, -4] = run.language.coder.end
    short.loss_weights[0, -3:] = 0
    losses = run.objective(short)
    total = 0.0
    states = run.patches.encoder(batch.images.float() / 127.5 - 1)
    for row in range(4):
        learned = short.loss_weights[row] > 0
        length = int(learned.nonzero().max()) + 1
        ids = short.token_ids[row, :length]
        embedded = run.language.model.embed(ids[None])
        embedded[0, 1:17] = run.objective.projector(states[row])
        log_probs = run.language.model(embedded, length)[0].log_softmax(-1)
        for place in range(17, length):
            total -= log_probs[place - 1, ids[place]].item()
    assert losses.weighted_sum.item() == pytest.approx(total, abs=1e-3)
    assert losses.counts["caption"] == short.loss_weights.sum()
    assert losses.terms["caption"].item() == pytest.approx(total, abs=1e-3)
    assert batch.loss_denominator == batch.loss_weights.sum()


def test_weights_of_picture_places_change_nothing_but_what_is_predicted_there(
    run: ProjectorRun,
) -> None:
    """A loss over image places too, which a naive layout has, is another number."""
    (batch,) = run.source.batch(0)
    assert not batch.loss_weights[batch.is_image].any()
    naive = replace(batch, loss_weights=torch.ones_like(batch.loss_weights))
    alone, all_places = run.objective(batch), run.objective(naive)
    assert all_places.counts["caption"] > alone.counts["caption"]
    assert all_places.weighted_sum.item() != pytest.approx(alone.weighted_sum.item(), abs=1.0)
    ids = torch.where(batch.is_image, 5, batch.token_ids)  # whatever stands under a picture
    other = run.objective(replace(batch, token_ids=ids))
    assert other.weighted_sum.item() == alone.weighted_sum.item()


@pytest.mark.parametrize(
    ("language", "patches", "projector"),
    [
        ("llama", "clip", "mlp"), ("gpt2", "vqgan", "queries"), ("genvlm", "siglip", "mlp"),
        ("llama", "small", "linear"), ("genvlm", "small", "queries"),
        ("genvlm", "own", "mlp"),
    ],
)  # fmt: skip
def test_what_is_not_frozen_alone_gets_gradients_and_changes(
    language: LanguageKind, patches: PatchKind, projector: ProjectorKind, tmp_path: Path
) -> None:
    config = tiny_projector_train_config(tmp_path, language, patches, projector=projector)
    run = prepare_projector(config, None)
    frozen = fingerprint_frozen(run.objective)
    sees = patches == "small"
    assert frozen.keys() == {"language model"} | (set() if sees else {"image encoder"})
    trained = ("projector.", "image_encoder.") if sees else ("projector.",)
    (batch,) = run.source.batch(0)
    run.objective.train()
    run.objective(batch).weighted_sum.backward()
    for name, parameter in run.objective.named_parameters():
        mine = name.startswith(trained)
        assert parameter.requires_grad == mine
        assert (parameter.grad is not None and bool(parameter.grad.any())) == mine
    before = {n: t.clone() for n, t in run.objective.state_dict().items()}
    assert all(name.startswith(trained) for name in before)
    assert len({name.partition(".")[0] for name in before}) == len(trained)
    engine = engine_of(run, config)
    for step in range(2):
        engine.train_step(step, run.source.batch(step))
    for name, tensor in run.objective.state_dict().items():
        assert not torch.equal(tensor, before[name])
    check_frozen(fingerprint_frozen(run.objective), frozen)


@pytest.mark.parametrize("part", ["image encoder", "language model"])
def test_a_frozen_weight_that_changed_is_an_error(part: str, run: ProjectorRun) -> None:
    frozen = fingerprint_frozen(run.objective)
    parameter = next(run.objective.frozen_parts()[part].parameters())
    with torch.no_grad():  # by the last bit of one number
        first = parameter.view(-1)[:1]
        first.copy_(torch.nextafter(first, torch.full_like(first, torch.inf)))
    with pytest.raises(TrainingError, match=f"frozen weights of the {part} changed in training"):
        check_frozen(fingerprint_frozen(run.objective), frozen)


def test_a_checkpoint_holds_the_projector_alone(
    config: ProjectorTrainConfig, run: ProjectorRun
) -> None:
    state = run.objective.state_dict()
    assert set(state) == {
        f"projector.linear_{i}.{name}" for i in (1, 2) for name in ("weight", "bias")
    }
    frozen = fingerprint_frozen(run.objective)
    other = prepare_projector(replace(config, seed=1), None).objective
    load_into(other, state, "the checkpoint")
    assert all(torch.equal(other.state_dict()[name], state[name]) for name in state)
    assert fingerprint_frozen(other) == frozen


def test_a_checkpoint_holds_an_image_encoder_that_is_trained(tmp_path: Path) -> None:
    config = tiny_projector_train_config(tmp_path, "llama", "small")
    objective, other = (
        prepare_projector(replace(config, seed=seed), None).objective for seed in (0, 1)
    )
    wanted = fingerprint_tensors(objective.image_encoder.state_dict())
    assert fingerprint_tensors(other.image_encoder.state_dict()) != wanted
    load_into(other, objective.state_dict(), "the checkpoint")
    assert fingerprint_tensors(other.image_encoder.state_dict()) == wanted


def test_accumulation_equals_one_large_batch(config: ProjectorTrainConfig) -> None:
    results, states = [], []
    for accum in (1, 2, 4):
        run = prepare_projector(config, None)
        run.objective.double()
        engine = engine_of(run, config, accum)
        batches = [run.source.batch(step, accum=accum) for step in range(2)]
        results.append([engine.train_step(s, b) for s, b in enumerate(batches)])
        states.append(engine.state_dict())
    for split, state in zip(results[1:], states[1:], strict=True):
        for whole, part in zip(results[0], split, strict=True):
            assert whole.counts == part.counts
            assert part.terms["caption"] == pytest.approx(whole.terms["caption"], abs=1e-5)
        for name, tensor in states[0].items():
            torch.testing.assert_close(state[name], tensor, atol=1e-5, rtol=0)


def test_an_untrained_projector_knows_little_of_captions(run: ProjectorRun) -> None:
    (batch,) = run.source.batch(0)
    losses = run.objective(batch)
    mean = losses.weighted_sum.item() / batch.loss_denominator
    num_words = 40
    assert 0.5 * math.log(num_words) < mean < 3 * math.log(num_words)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"deepspeed": "configs/deepspeed/zero1.json"}, "deepspeed shards what is trained"),
        ({"compile": True}, "nearly all is frozen: set both to false"),
        ({"activation_checkpointing": True}, "nearly all is frozen: set both to false"),
        ({"optimizer": OptimizerConfig(kind="muon", learning_rate=1e-3)}, "set it to adamw"),
    ],
)
def test_what_only_trained_blocks_can_use_is_refused(
    change: dict[str, object], said: str, config: ProjectorTrainConfig
) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(config, **change)  # type: ignore[arg-type]

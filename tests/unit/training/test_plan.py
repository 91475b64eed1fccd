"""Plans against what a step really holds and computes, on shapes that are unlike each other."""

import contextlib
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from genvlm.cli.main import main
from genvlm.config.assets import resolve_path
from genvlm.config.schema import load_config
from genvlm.config.training import OptimizerConfig
from genvlm.config.transformer import PublishedShape, TransformerConfig
from genvlm.data.batches import Batch
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.nn import layers
from genvlm.studies.flops import count_flops
from genvlm.testing.memory import saved_by
from genvlm.testing.processes import ROOT
from genvlm.training import footprint
from genvlm.training.ema import WeightAverage
from genvlm.training.footprint import Numbers, count_parameters, flops_per_token, saved_bytes
from genvlm.training.hardware import find_gpu
from genvlm.training.objectives.next_token import NextTokenObjective
from genvlm.training.optimizers import build_optimizers
from genvlm.training.plan import STAGES, Work, build_plan, optimizer_numbers, plan_memory
from genvlm.training.shards import WholeParameters

VOCAB, ROWS, TOKENS = 500, 2, 96
SHAPES = {
    "grouped": TransformerConfig(
        hidden_size=48, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=12,
        intermediate_size=128, context_length=128,
    ),
    "chameleon": TransformerConfig(
        hidden_size=32, num_layers=3, num_heads=2, num_kv_heads=2, head_dim=32,
        intermediate_size=64, context_length=128, qk_norm="layer", qk_norm_per_head=True,
        norm_order="swin", dropout=0.1,
    ),
    "llamagen": TransformerConfig(
        hidden_size=64, num_layers=1, num_heads=4, num_kv_heads=1, head_dim=16,
        intermediate_size=160, context_length=128, qk_norm=None, rotary_dims=(0, 0, 8, 8),
        tie_head=True,
    ),
}  # fmt: skip
SHIPPED = ("chameleon-7b", "chameleon-34b", "llamagen-b", "llamagen-3b")


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> TransformerConfig:
    return SHAPES[request.param]


def build(shape: TransformerConfig) -> NextTokenObjective:
    torch.manual_seed(0)
    model = MixedModalTransformer(shape, VOCAB)
    model.init_weights()
    return NextTokenObjective(model, 1e-5)


def full_batch() -> Batch:
    ids = torch.randint(0, VOCAB, (ROWS, TOKENS + 1))
    positions = torch.zeros(ROWS, TOKENS + 1, 3, dtype=torch.long)
    return Batch(ids, torch.ones_like(ids), positions, torch.ones(ids.shape), 1.0)


@contextlib.contextmanager
def computing(objective: NextTokenObjective, numbers: Numbers) -> Iterator[None]:
    if numbers == "bfloat16":
        objective.bfloat16()
    autocast = numbers == "autocast"
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        # Norms of bfloat16 numbers with float32 weights are not fused, which torch says once.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        yield


# --- against measurements -------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("limit", [2**24, 0], ids=["logits kept", "head in pieces"])
@pytest.mark.parametrize("numbers", ["float32", "autocast", "bfloat16"])
def test_saved_activations_are_predicted(
    shape: TransformerConfig,
    numbers: Numbers,
    limit: int,
    packed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert footprint.MAX_LOGITS == layers._MAX_LOGITS
    monkeypatch.setattr(footprint, "MAX_LOGITS", limit)
    monkeypatch.setattr(layers, "_MAX_LOGITS", limit)
    objective, batch = build(shape), full_batch()
    if packed:
        of_three = torch.arange(TOKENS + 1).div(40, rounding_mode="floor")
        batch = replace(batch, document_ids=of_three.repeat(ROWS, 1))
    with computing(objective, numbers):
        saved = saved_by(lambda: objective(batch), [*objective.parameters(), batch.token_ids])
    planned = saved_bytes(shape, VOCAB, rows=ROWS, tokens=TOKENS, numbers=numbers, packed=packed)
    assert planned.total == pytest.approx(saved.num_bytes, rel=0.05)  # 0.15 is asked for


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_parameters_gradients_states_and_average_are_predicted(
    shape: TransformerConfig, kind: str
) -> None:
    objective = build(shape)
    work = Work(
        model=shape, vocab_size=VOCAB, micro_batch_size=ROWS, row_length=TOKENS,
        precision="float32", ema=True, optimizer=kind,
    )  # fmt: skip
    config = OptimizerConfig(kind=kind, learning_rate=1e-3)
    optimizers = build_optimizers(objective, config, fused=True)
    objective(full_batch()).weighted_sum.backward()
    for optimizer in optimizers:
        optimizer.step()
    parameters = list(objective.parameters())
    states = [t for o in optimizers for state in o.state.values() for t in state.values()]
    planned = plan_memory(work, 0, num_devices=1)
    assert planned.parameters == num_bytes(parameters)
    assert planned.gradients == num_bytes([p.grad for p in parameters])
    # Beside the moments, AdamW counts the steps of each parameter.
    assert planned.optimizer == pytest.approx(num_bytes(states), rel=0.01)
    average = WeightAverage(WholeParameters(objective), 0.9)
    assert planned.ema == num_bytes(list(average._shadow.values()))


def num_bytes(tensors: list[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("limit", [2**24, 0], ids=["logits kept", "head in pieces"])
def test_flops_are_those_that_torch_counts(
    shape: TransformerConfig, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_MAX_LOGITS", limit)
    objective = build(shape)
    counted = count_flops(objective, full_batch(), backward=True)
    # Attention's backward pass computes its scores again, which is no work of the model.
    queries = shape.num_heads * shape.head_dim
    counted -= 2 * shape.num_layers * ROWS * TOKENS**2 * queries
    planned = ROWS * TOKENS * flops_per_token(shape, VOCAB, TOKENS)
    assert planned == pytest.approx(counted, rel=1e-6)


@pytest.mark.parametrize("name", SHIPPED)
def test_published_shapes_have_their_published_number_of_parameters(name: str) -> None:
    shape = load_config(PublishedShape, resolve_path(f"configs/train/{name}.yaml"))
    assert count_parameters(shape.model, shape.vocab_size).total == shape.num_parameters
    with torch.device("meta"):
        model = MixedModalTransformer(shape.model, shape.vocab_size)
    assert sum(p.numel() for p in model.parameters()) == shape.num_parameters


# --- the arithmetic of sharding -------------------------------------------------------------------


CHAMELEON = load_config(PublishedShape, resolve_path("configs/train/chameleon-7b.yaml"))
WORK = Work(
    model=CHAMELEON.model, vocab_size=CHAMELEON.vocab_size, micro_batch_size=1, row_length=4096,
    precision="bfloat16", ema=True,
)  # fmt: skip


def test_shards_of_eight_gpus_are_an_eighth() -> None:
    total = CHAMELEON.num_parameters
    one, two, three = (plan_memory(WORK, stage, 8) for stage in (1, 2, 3))
    # bfloat16 weights and gradients, a float32 copy and two moments (Rajbhandari et al. 2020).
    assert (one.parameters, one.gradients, one.optimizer) == (2 * total, 2 * total, 12 * total / 8)
    assert (two.parameters, two.gradients, two.optimizer) == (2 * total, total / 4, one.optimizer)
    assert (three.parameters, three.gradients) == (total / 4, total / 4)
    assert three.optimizer == one.optimizer
    assert one.ema == two.ema == three.ema == 4 * total / 8


def test_without_deepspeed_nothing_is_sharded_and_weights_are_whole_numbers() -> None:
    total = CHAMELEON.num_parameters
    alone, many = plan_memory(WORK, 0, 1), plan_memory(WORK, 0, 8)
    assert alone.parameters == alone.gradients == many.parameters == 4 * total
    assert alone.optimizer == many.optimizer == 8 * total
    assert (alone.buffers, many.buffers) == (0, 4 * total)


def test_a_higher_stage_never_holds_more_states() -> None:
    states = [plan_memory(WORK, stage, 64).states for stage in STAGES]
    assert states == sorted(states, reverse=True)


def test_recomputing_keeps_the_input_of_each_block_and_one_block() -> None:
    again = replace(WORK, activation_checkpointing=True)
    kept, recomputed = plan_memory(WORK, 3, 8), plan_memory(again, 3, 8)
    inputs = CHAMELEON.model.num_layers * 4096 * CHAMELEON.model.hidden_size * 2
    assert inputs < recomputed.activations < kept.activations / 10


def test_muon_holds_one_moment_of_matrices_in_blocks() -> None:
    counts = WORK.parameters
    assert optimizer_numbers(counts, "adamw") == 2 * counts.total
    assert optimizer_numbers(counts, "muon") == 2 * counts.total - counts.attention - counts.mlp


# --- the command ----------------------------------------------------------------------------------


def test_chameleons_hours_follow_from_its_tokens_at_a_plausible_mfu() -> None:
    """856,481 hours of A100 are published; docs/plan.md says what is assumed."""
    plan = build_plan(
        replace(WORK, ema=False), find_gpu("a100"), gpu_name="a100", num_devices=1024, mfu=0.45,
        tokens=9.2e12,
    )  # fmt: skip
    assert plan.compute.device_hours == pytest.approx(856_481, rel=0.01)
    assert plan.smallest_stage == 1


def test_the_command_prints_tables_json_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", "configs/train/chameleon-34b.yaml", "--gpus", "16", "--gpu", "h200"]
    assert main([*command, "--tokens", "1e12", "--plot", str(tmp_path / "plan.svg")]) == 0
    text = capsys.readouterr().out
    assert "not measured" in text
    assert "smallest stage that fits: ZeRO 3" in text
    assert (tmp_path / "plan.svg").read_bytes().startswith(b"<svg")
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["measured"] is False
    assert content["parameters"]["total"] == 34_294_308_864
    assert [content["memory"][str(s)]["fits"] for s in STAGES] == [False, False, False, True]
    assert "days" not in content  # nobody said how many tokens
    assert main([*command, "--json", "--micro-batch-size", "64"]) == 0
    assert json.loads(capsys.readouterr().out)["smallest_stage"] is None


def test_a_run_is_planned_with_its_own_vocabulary_and_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "configs/debug/infill.yaml", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["tokens"] == 10 * 8 * 400
    assert (content["precision"], content["micro_batch_size"]) == ("float32", 4)


def test_a_small_model_is_told_in_a_unit_in_which_its_parameters_are_not_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for config, unit, of_gpu in (
        ("debug/tiny", "MiB", 2**20),
        ("train/chameleon-7b", "GiB", 2**30),
    ):
        command = ["plan", f"configs/{config}.yaml", "--json"]
        assert main(command) == 0
        content = json.loads(capsys.readouterr().out)
        assert main(command[:-1]) == 0
        lines = capsys.readouterr().out.splitlines()
        (head,) = (i for i, line in enumerate(lines) if line.startswith(f"{unit} on each GPU"))
        assert lines[head + 1].endswith(f"of {content['gpu_bytes'] / of_gpu:.0f}")
        for stage, line in enumerate(lines[head + 2 : head + 6]):
            needed = content["memory"][str(stage)]
            cells = line.split()
            assert cells[1] == f"{needed['parameters'] / of_gpu:.2f}" != "0.00"
            assert cells[len(needed) - 1] == f"{needed['total'] / of_gpu:.2f}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["configs/train/chameleon-7b.yaml", "--gpu", "h1000"], "no GPU 'h1000' is listed"),
        (["configs/train/chameleon-7b.yaml", "--row-length", "9999"], "more than the context"),
        (["configs/train/diffusion-scenes.yaml"], "plans are of transformers alone"),
        (["configs/debug/tiny.yaml", "--plot", "plan.txt"], "name a file that ends in .svg"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_planning_a_published_shape_needs_no_torch() -> None:
    code = (
        "import sys; from genvlm.cli.main import main; "
        "main(['plan', 'configs/train/chameleon-34b.yaml']); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_every_part_of_the_total_is_a_column() -> None:
    needed = plan_memory(WORK, 2, 8)
    assert needed.total == sum(asdict(needed).values())

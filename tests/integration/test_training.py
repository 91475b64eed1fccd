"""Whole runs at tiny size: learning, resuming bit for bit, and surviving every kind of stop."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.data import CaptionsSource, DataConfig, DocumentsSource
from genvlm.config.training import OptimizerConfig, TrainConfig
from genvlm.data.batches import BatchSource
from genvlm.data.corpus import build_corpus
from genvlm.data.sources import Sample
from genvlm.data.tokenising import Tokenizers
from genvlm.errors import CheckpointError, ConfigError, DataError, StorageError, TrainingError
from genvlm.generation.interleaved import sample_documents
from genvlm.generation.sampling import SamplingSettings
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import build_vocabulary, load_pretrained
from genvlm.models.text_only import load_text_only
from genvlm.nn.safetensors_folder import fingerprint_tensors, load_tensors
from genvlm.scoring.open import open_scorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.corpora import corpus_of
from genvlm.testing.files import write_json_lines
from genvlm.testing.logs import logged
from genvlm.testing.processes import train_elsewhere
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_pairs,
    tiny_text_tokenizer,
    tiny_train_config,
)
from genvlm.tokenization.document import Text
from genvlm.training.checkpoint import list_checkpoints
from genvlm.training.engine import Engine
from genvlm.training.loop import Progress, train
from genvlm.training.objectives.next_token import NextTokenObjective
from genvlm.training.stopping import StoppedError, stop_signals


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_train_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps without a stop. Copy before changing."""
    out = tmp_path_factory.mktemp("finished")
    train(config, out)
    return out


def weights(out: Path) -> str:
    return fingerprint_tensors(load_tensors(out / "model" / "model.safetensors"))


def stop_at(step: int, number: int = signal.SIGTERM) -> Progress:
    def seen(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == step:
            signal.raise_signal(number)

    return Progress(step=seen)


def same(a: Path, b: Path) -> None:
    assert logged(a) == logged(b)
    assert weights(a) == weights(b)


def test_the_loss_falls(config: TrainConfig, tmp_path: Path) -> None:
    longer = replace(
        config, num_steps=120, global_batch_size=6, micro_batch_size=6, checkpoint_every=1000
    )
    train(longer, tmp_path)
    records = logged(tmp_path)
    for term in ("loss", "loss_text", "loss_image"):
        first, last = (sum(r[term] for r in part) / 10 for part in (records[:10], records[-10:]))
        assert last < 0.6 * first, term


def test_a_run_ends_in_a_model_folder(config: TrainConfig, finished: Path) -> None:
    pretrained = load_pretrained(finished / "model")
    assert pretrained.model.config == config.model
    assert pretrained.condition_dropout == config.data.condition_dropout
    assert pretrained.fingerprint in (finished / "model" / "README.md").read_text()
    assert [r["step"] for r in logged(finished)] == list(range(1, 9))
    assert len(list_checkpoints(finished / "checkpoints")) == 2


def test_the_same_run_twice_is_bitwise_equal(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    train(config, tmp_path)
    same(tmp_path, finished)


def test_a_record_speaks_of_all_steps_since_the_last_one(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    train(replace(config, log_every=5), tmp_path)
    records, every = logged(tmp_path), logged(finished)
    assert [r["step"] for r in records] == [5, 8]
    for record, steps in zip(records, (every[:5], every[5:]), strict=True):
        norms = [r["grad_norm"] for r in steps]
        assert record["grad_norm"] == pytest.approx(sum(norms) / len(norms))
        for term in ("loss", "loss_text", "loss_image"):
            of_steps = [r[term] for r in steps]
            # Between the mean and the extremes: steps weigh as many tokens as they have.
            assert record[term] == pytest.approx(sum(of_steps) / len(of_steps), rel=0.05)
            assert min(of_steps) < record[term] < max(of_steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_bitwise(
    config: TrainConfig, finished: Path, tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(
        StoppedError, match=rf"stopped at step 3 by {number.name}.*--resume"
    ) as info:
        train(config, tmp_path, progress=stop_at(3, number))
    assert info.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == ["step-00000003"]
    assert not (tmp_path / "model").exists()
    said: list[str] = []
    train(config, tmp_path, resume=True, progress=Progress(say=said.append))
    assert "resumed at step 3" in said
    same(tmp_path, finished)


def test_dropout_resumes_bitwise_too(config: TrainConfig, tmp_path: Path) -> None:
    dropping = replace(config, model=replace(config.model, dropout=0.2))
    train(dropping, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(dropping, tmp_path / "parts", progress=stop_at(4))
    torch.manual_seed(999)
    train(dropping, tmp_path / "parts", resume=True)
    same(tmp_path / "parts", tmp_path / "whole")


def test_muon_learns_and_resumes_bitwise(config: TrainConfig, tmp_path: Path) -> None:
    muon = replace(config, optimizer=replace(config.optimizer, kind="muon"))
    train(muon, tmp_path / "whole")
    losses = [record["loss_image"] for record in logged(tmp_path / "whole")]
    assert losses[-1] < losses[0]
    with pytest.raises(StoppedError):
        train(muon, tmp_path / "parts", progress=stop_at(4))
    train(muon, tmp_path / "parts", resume=True)
    same(tmp_path / "parts", tmp_path / "whole")
    with pytest.raises(ConfigError, match="muon needs whole matrices"):
        replace(muon, deepspeed="configs/deepspeed/zero1.json")


def test_a_killed_run_resumes_from_its_last_whole_checkpoint(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    """As after kill -9 between steps 5 and 8 while a checkpoint was being written."""
    with pytest.raises(StoppedError):
        train(config, tmp_path, progress=stop_at(6))
    checkpoints = tmp_path / "checkpoints"
    half = checkpoints / ".tmp-00000006-123"
    (checkpoints / "step-00000006").rename(half)
    (half / "manifest.json").unlink()
    for left in (".parts-00000006", ".universal"):  # by several processes
        shutil.copytree(half, checkpoints / left)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    said: list[str] = []
    train(config, tmp_path, resume=True, progress=Progress(say=said.append))
    assert "resumed at step 4" in said
    assert not list(checkpoints.glob(".*"))
    same(tmp_path, finished)


@pytest.mark.parametrize("damage", ["flipped", "cut", "lost", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_loudly(
    config: TrainConfig, finished: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    newest = list_checkpoints(out / "checkpoints")[-1]
    victim = max((p for p in newest.iterdir()), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "lost":
        victim.unlink()
    else:
        (newest / "manifest.json").write_text("{")
    said: list[str] = []
    train(config, out, resume=True, progress=Progress(say=said.append))
    assert any("step-00000008" in s and "trying the one before it" in s for s in said)
    assert "resumed at step 4" in said
    same(out, finished)


def test_a_second_run_in_the_same_folder_is_refused(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="holds a run already: add --resume"):
        train(config, finished)

    def intrude(_record: dict[str, float], _num_steps: int) -> None:
        with pytest.raises(StorageError, match="another process is writing into"):
            train(config, tmp_path)

    train(replace(config, num_steps=1), tmp_path, progress=Progress(step=intrude))


def test_another_configuration_is_refused_on_resume(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(CheckpointError, match="was started with another configuration"):
        train(replace(config, seed=1), tmp_path / "run", resume=True)
    train(config, tmp_path / "run", resume=True)  # nothing left to do
    same(tmp_path / "run", finished)


def test_resuming_an_empty_folder_starts_from_the_beginning(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    train(config, tmp_path, resume=True)
    same(tmp_path, finished)


# --- accumulation --------------------------------------------------------------------------------


def source_for(config: TrainConfig, global_batch_size: int) -> BatchSource:
    text, image = tiny_text_tokenizer(), tiny_image_tokenizer()
    return BatchSource(
        corpus=build_corpus(config.data, Tokenizers(text=text, image=image), None),
        config=config.data,
        vocabulary=build_vocabulary(text, image),
        text_tokenizer=text,
        grid=image.grid,
        max_tokens=config.model.context_length,
        global_batch_size=global_batch_size,
        seed=0,
        modality_weights=(1.0, 1.0, 0.5, 0.5),
    )


@pytest.mark.parametrize("accum", [2, 4, 8])
def test_accumulation_equals_one_large_batch(config: TrainConfig, accum: int) -> None:
    source = source_for(config, 8)
    results, states = [], []
    for parts in (1, accum):
        model = build_transformer(config.model, source.vocabulary.size, seed=0).double()
        engine = Engine(
            NextTokenObjective(model, 1e-4),
            OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
            num_steps=3,
            precision="float32",
            grad_accum_steps=parts,
        )
        results.append([engine.train_step(s, source.batch(s, accum=parts)) for s in range(3)])
        states.append(engine.state_dict())
    # Unequal numbers of tokens per micro-batch, or the test would prove nothing.
    sizes = {int((b.loss_weights > 0).sum()) for b in source.batch(0, accum=accum)}
    assert len(sizes) > 1
    for whole, split in zip(*results, strict=True):
        assert whole.counts == split.counts
        assert whole.grad_norm == pytest.approx(split.grad_norm, abs=1e-6)
        assert whole.terms == pytest.approx(split.terms, abs=1e-5)  # summed in float32
        assert {"max_logit_text", "max_logit_image"} == whole.maxima.keys()
        assert whole.maxima == pytest.approx(split.maxima, abs=1e-5)
        assert {"hidden_norm_text", "hidden_norm_image"} == whole.means.keys()
        for name, mean in whole.means.items():
            assert split.means[name] == pytest.approx(mean, abs=1e-4), name
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-6, rtol=0)


def test_processes_get_disjoint_parts_of_one_batch(config: TrainConfig) -> None:
    source = source_for(config, 4)
    (whole,) = source.batch(1)
    parts = [b for rank in range(2) for b in source.batch(1, rank=rank, num_ranks=2, accum=2)]
    assert [len(b.token_ids) for b in parts] == [1] * 4
    assert {b.loss_denominator for b in parts} == {whole.loss_denominator}
    assert sum(float(b.loss_weights.sum()) for b in parts) == whole.loss_denominator


def test_fewer_documents_than_a_global_batch_are_refused(
    config: TrainConfig, tmp_path: Path
) -> None:
    greedy = replace(config, global_batch_size=16, micro_batch_size=1)
    with pytest.raises(DataError, match=r"12 documents.*global_batch_size"):
        train(greedy, tmp_path)


def test_a_gradient_that_is_not_finite_changes_nothing_and_then_stops(
    config: TrainConfig,
) -> None:
    source = source_for(config, 4)
    model = build_transformer(config.model, source.vocabulary.size, seed=0)
    objective = NextTokenObjective(model, 0.0)
    engine = Engine(objective, config.optimizer, num_steps=99, precision="float32")
    engine.train_step(0, source.batch(0))
    before = fingerprint_tensors(model.state_dict())
    hook = model.norm.register_forward_hook(lambda _m, _i, out: out * float("nan"))
    assert engine.train_step(1, source.batch(1)).skipped
    assert fingerprint_tensors(model.state_dict()) == before
    hook.remove()
    assert not engine.train_step(2, source.batch(2)).skipped
    model.norm.register_forward_hook(lambda _m, _i, out: out * float("inf"))
    for step in range(3, 12):
        assert engine.train_step(step, source.batch(step)).skipped
    with pytest.raises(TrainingError, match="not finite in 10 steps in a row"):
        engine.train_step(12, source.batch(12))


def test_a_run_of_text_alone_is_a_language_model_and_says_that_it_saw_no_picture(
    config: TrainConfig, tmp_path: Path
) -> None:
    rows = [{"id": str(i), "segments": [{"text": f"a red bar {i}"}]} for i in range(8)]
    write_json_lines(tmp_path / "texts.jsonl", rows)
    data = DataConfig(sources=(DocumentsSource(path=str(tmp_path / "texts.jsonl")),))
    folder = train(replace(config, data=data, num_steps=2), tmp_path / "run")
    assert all(record["loss"] == record["loss_text"] for record in logged(tmp_path / "run"))
    assert "of text alone: it has seen no picture" in (folder / "README.md").read_text()
    pretrained, sampling = load_pretrained(folder), SamplingSettings()
    with pytest.raises(ConfigError, match="trained on texts alone"):
        open_scorer(folder).score([Grid(item_id="a", images=[tiny_pairs()[0][1]], texts=["a"])])
    with pytest.raises(ConfigError, match="trained on texts alone"):
        sample_documents(pretrained, [[Text("a red bar")]], sampling, seed=0, image_next=True)
    (told,) = sample_documents(pretrained, [[Text("a red bar")]], sampling, seed=0, max_tokens=14)
    assert len(told.token_ids) > told.num_prompt_tokens
    language = load_text_only(folder)
    row = [*language.coder.begin, *language.coder.encode("a red bar")]
    logits = language.model(language.model.embed(torch.tensor([row])), keep=1)
    assert logits.shape == (1, 1, language.coder.end + 1)
    assert logits.isfinite().all()


def test_a_batch_in_which_nothing_is_learned_is_a_step_of_loss_zero(config: TrainConfig) -> None:
    """Texts alone where text weighs nothing: legal, and rare in a mixture with pictures."""
    texts = [Sample(str(i), ("red " * (i + 1),), "document") for i in range(4)]
    source = replace(
        source_for(config, 4), corpus=corpus_of(texts, []), modality_weights=(0.0, 0.0, 1.0, 1.0)
    )
    model = build_transformer(config.model, source.vocabulary.size, seed=0)
    engine = Engine(
        NextTokenObjective(model, 1e-4), config.optimizer, num_steps=9, precision="float32"
    )
    result = engine.train_step(0, source.batch(0))
    assert not result.skipped
    assert (result.grad_norm, result.terms) == (0.0, {})


# --- other processes -----------------------------------------------------------------------------


TRAIN = """
import sys
from pathlib import Path
from genvlm.config.schema import load_config
from genvlm.config.training import TrainConfig
from genvlm.training.loop import train

train(load_config(TrainConfig, Path(sys.argv[1])), Path(sys.argv[2]), resume=len(sys.argv) > 3)
"""


STOP_ONE = """
import contextlib
import os
import signal
from genvlm.training.engine import Engine
from genvlm.training.stopping import StoppedError

plain = Engine.train_step

def with_signal(self, step, batches):
    if (self.rank, step) == (1, 2):
        signal.raise_signal(signal.SIGTERM)
    return plain(self, step, batches)

Engine.train_step = with_signal
""" + TRAIN.replace("\ntrain(", "\nwith contextlib.suppress(StoppedError):\n    train(")


def run_elsewhere(
    config: TrainConfig,
    out: Path,
    *,
    num_processes: int = 1,
    resume: bool = False,
    code: str = TRAIN,
) -> None:
    train_elsewhere(code, config, out, num_processes=num_processes, resume=resume)


def same_losses(a: Path, b: Path) -> None:
    for ours, theirs in zip(logged(a), logged(b), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], abs=1e-3)
        assert ours == pytest.approx(theirs, abs=1e-2)  # maxima and norms too, which are larger
    tensors = [load_tensors(out / "model" / "model.safetensors") for out in (a, b)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[1].items():
        torch.testing.assert_close(tensors[0][name], tensor, atol=1e-3, rtol=0)


def test_two_processes_equal_one(config: TrainConfig, finished: Path, tmp_path: Path) -> None:
    split = replace(config, micro_batch_size=1)
    run_elsewhere(split, tmp_path / "two", num_processes=2)
    same_losses(tmp_path / "two", finished)
    # And they go on together from the first half of their checkpoints.
    checkpoints = tmp_path / "two" / "checkpoints"
    shutil.rmtree(checkpoints / "step-00000008")
    before = weights(tmp_path / "two")
    run_elsewhere(split, tmp_path / "two", num_processes=2, resume=True)
    assert weights(tmp_path / "two") == before


def test_a_signal_to_one_process_stops_all_at_one_step(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    split = replace(config, micro_batch_size=1)
    run_elsewhere(split, tmp_path / "two", num_processes=2, code=STOP_ONE)
    checkpoints = list_checkpoints(tmp_path / "two" / "checkpoints")
    assert [p.name for p in checkpoints] == ["step-00000003"]
    run_elsewhere(split, tmp_path / "two", num_processes=2, resume=True)
    same_losses(tmp_path / "two", finished)


def test_a_finished_run_that_is_resumed_keeps_its_model_folder(
    config: TrainConfig, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    (out / "model" / "of-mine.txt").write_text("kept")
    train(config, out, resume=True)
    assert (out / "model" / "of-mine.txt").read_text() == "kept"
    shutil.rmtree(out / "model")
    train(config, out, resume=True)
    same(out, finished)


def test_a_run_goes_on_only_with_the_data_it_began_with(tmp_path: Path) -> None:
    config = tiny_train_config(tmp_path / "data")
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", progress=stop_at(3))
    source = config.data.sources[0]
    assert isinstance(source, CaptionsSource)
    captions = Path(source.path) / "captions.jsonl"
    before = captions.read_text()
    captions.write_text(before.replace("red square", "red thing"))
    with pytest.raises(CheckpointError, match="another corpus: bring back"):
        train(config, tmp_path / "run", resume=True)
    captions.write_text(before)
    train(config, tmp_path / "run", resume=True)


def test_resuming_where_nothing_was_saved_is_said(config: TrainConfig, tmp_path: Path) -> None:
    said: list[str] = []
    train(replace(config, num_steps=1), tmp_path, resume=True, progress=Progress(say=said.append))
    assert any("holds no checkpoint: beginning at step 0" in s for s in said)


def test_a_second_signal_ends_a_step_that_hangs() -> None:
    with stop_signals() as received:
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_no_clipping_is_not_a_gradient_of_zero(config: TrainConfig, tmp_path: Path) -> None:
    free = replace(config, optimizer=replace(config.optimizer, grad_clip=0.0))
    train(free, tmp_path)
    losses = [r["loss"] for r in logged(tmp_path)]
    assert losses[-1] < losses[0]


def test_a_deepspeed_file_that_is_no_object_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="must hold a JSON object"):
        train(replace(config, deepspeed=str(path)), tmp_path / "run")

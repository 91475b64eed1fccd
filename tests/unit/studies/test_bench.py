"""The machinery of `genvlm bench`: intervals, equal answers before time, bars, files, memory."""

import io
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from genvlm.cli.main import main
from genvlm.errors import ConfigError, EvaluationError
from genvlm.models.pretrained import save_pretrained
from genvlm.nn import layers
from genvlm.nn.layers import TokenHead
from genvlm.studies.bench import decode, loss, score_image, score_matrix, score_text, vq
from genvlm.studies.bench.memory import peak_memory
from genvlm.studies.bench.models import (
    Shape,
    Twins,
    build_twins,
    check_close,
    check_equal,
    random_codes,
    random_texts,
)
from genvlm.studies.bench.plots import draw_ratios
from genvlm.studies.bench.report import Result, memory_row, save_result, time_row
from genvlm.studies.bench.timing import (
    Ratio,
    Settings,
    ratio_of_medians,
    ratio_of_totals,
    time_interleaved,
)
from genvlm.testing.tiny import tiny_pretrained

TINY = Shape(
    hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48, context_length=64,
    num_words=32, codebook_size=16, grid_side=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A benchmark sets torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    pytest.importorskip("transformers", reason="transformers is not installed")
    return build_twins(TINY, tmp_path_factory.mktemp("twins"))


# --- timing ---------------------------------------------------------------------------------------


def test_the_interval_holds_the_true_ratio_of_known_times() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        slow = 2.0 * np.exp(0.1 * rng.standard_normal(15))
        quick = 1.0 * np.exp(0.1 * rng.standard_normal(15))
        ratio = ratio_of_medians(slow, quick, seed)
        assert ratio.low <= ratio.value <= ratio.high
        held += ratio.low <= 2.0 <= ratio.high
    assert held >= 34


def test_what_slows_both_does_not_widen_the_interval() -> None:
    shared = np.exp(0.5 * np.random.default_rng(0).standard_normal(15))
    ratio = ratio_of_medians(3 * shared, shared)
    assert ratio.low == pytest.approx(3)
    assert ratio.high == pytest.approx(3)


def test_a_rare_long_wait_counts_in_a_ratio_of_totals() -> None:
    steps, waits = np.full(100, 1.0), np.full(100, 1e-4)
    waits[[32, 64, 96]] = 1.0  # a new section
    ratio = ratio_of_totals(steps, waits)
    assert ratio.value == pytest.approx(100 / 3.0097)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.low > 10
    assert ratio_of_medians(steps, waits).value == pytest.approx(1e4)


def test_tasks_take_turns_and_each_is_first_in_turn() -> None:
    order: list[str] = []
    tasks: dict[str, Callable[[], object]] = {
        name: (lambda n=name: order.append(n)) for name in "abc"
    }
    seconds = time_interleaved(tasks, 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(s) for name, s in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_fewer_than_nine_repetitions_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 9"):
        Settings(repetitions=8)


# --- answers --------------------------------------------------------------------------------------


def test_answers_that_differ_are_not_timed() -> None:
    with pytest.raises(EvaluationError, match=r"scores differ by 0\.5, more than 0\.1"):
        check_close("scores", torch.tensor([1.0]), torch.tensor([1.5]), 0.1)
    with pytest.raises(EvaluationError, match="differ by nan"):
        check_close("scores", torch.tensor([float("nan")]), torch.tensor([1.5]), 0.1)
    with pytest.raises(EvaluationError, match=r"tokens differ \(1 of 2\)"):
        check_equal("tokens", torch.tensor([1, 2]), torch.tensor([1, 3]))
    latents, codebook = torch.zeros(1, 2, 1, 1), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    with pytest.raises(EvaluationError, match="1 of 1 codes differ"):
        vq.check_codes(torch.tensor([[[1]]]), torch.tensor([[[0]]]), latents, codebook)


@torch.no_grad()
def test_both_halves_of_the_twins_score_alike(twins: Twins) -> None:
    codes, texts = random_codes(TINY), random_texts(TINY, 4, 5)
    image, captions = score_text.foreign_inputs(twins, codes, texts)
    ours = score_text.score_ours(twins.ours, codes, texts)
    for theirs in (
        score_text.score_naively(twins.theirs, image, captions, 3),
        score_text.score_repeated(twins.theirs, image, captions),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    ids, code_ids = score_image.foreign_inputs(twins, codes, texts)
    ours = score_image.score_ours(twins.ours, codes, texts)
    theirs = score_image.score_theirs(twins.theirs, ids, code_ids, 16, 3)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_rescoring_finds_the_best_text_of_the_exact_model(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = torch.tensor([-10.0, -9.0, -9.4, -30.0, -9.1, -31.0], dtype=torch.float64)
    noise = torch.tensor([1.6, -0.4, 0.4, 0.3, -0.2, 0.1], dtype=torch.float64)
    rough = replace(twins.ours)

    def scored(model: object, codes: object, texts: list[int]) -> torch.Tensor:
        return (exact + noise if model is rough else exact)[torch.tensor(texts)].clone()

    monkeypatch.setattr(score_image, "score_ours", scored)
    found, again = score_image.score_with_rescoring(
        rough, twins.ours, random_codes(TINY), list(range(6))
    )
    assert int((exact + noise).argmax()) == 0
    assert int(found.argmax()) == int(exact.argmax()) == 1
    assert again == 4


# --- memory ---------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Numbers of the largest tensor that is made inside."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_no_tensor_of_the_chunked_loss_is_as_large_as_the_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "_MAX_LOGITS", 1)
    monkeypatch.setattr(layers, "_PIECE_ROWS", 8)
    monkeypatch.setattr(layers, "_PIECE_IDS", 100)
    head, hidden = TokenHead(4, 300), torch.randn(64, 4, requires_grad=True)
    targets = torch.arange(64)
    sizes = {}
    for name, function in (("chunked", loss.chunked_loss), ("plain", loss.plain_loss)):
        with LargestTensor() as largest:
            function(head, hidden, targets).backward()
        sizes[name] = largest.numel
    assert sizes == {"chunked": 4 * 300, "plain": 64 * 300}  # the weight, the logits


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_chunked_loss_has_the_gradients_of_the_plain_one(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_MAX_LOGITS", 1)
    monkeypatch.setattr(layers, "_PIECE_ROWS", 8)
    monkeypatch.setattr(layers, "_PIECE_IDS", 11)
    torch.manual_seed(0)
    head = TokenHead(4, 30).to(torch.float64 if dtype == torch.float64 else torch.float32)
    hidden = torch.randn(64, 4, dtype=head.proj.weight.dtype, requires_grad=True)
    targets, found = torch.arange(64) % 30, []
    for function in (loss.chunked_loss, loss.plain_loss):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = function(head, hidden, targets)
        found.append((value, *torch.autograd.grad(value, (hidden, head.proj.weight))))
    tolerance = 1e-12 if dtype == torch.float64 else 2e-2
    for ours, plain in zip(*found, strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, atol=tolerance, rtol=tolerance)


def take_memory(megabytes: int) -> Callable[[], object]:
    return lambda: bytearray(megabytes * 2**20)


def test_the_peak_of_a_fresh_process_is_what_the_work_takes() -> None:
    peak = peak_memory(take_memory, 64, threads=1)
    if peak is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 60 * 2**20 < peak < 100 * 2**20


# --- report ---------------------------------------------------------------------------------------


def test_a_bar_is_met_by_the_ratio_or_by_the_end_of_its_interval() -> None:
    settings, ratio = Settings(), Ratio(1.1, 0.95, 1.2)

    def met(settings: Settings, **bar: Any) -> bool | None:
        return time_row("a", "b", 1.0, 1.1, ratio, settings, **bar).met

    assert met(settings, bar=1.0) is True
    assert met(settings, bar=1.0, bar_on="low") is False
    assert met(settings, bar=0.9, bar_on="low") is True
    assert met(settings) is None
    assert met(replace(settings, quick=True), bar=1.0) is None
    assert memory_row("a", "b", 10, 45, settings, bar=4.0).met is True
    unknown = memory_row("a", "b", None, 45, settings, bar=4.0)
    assert (unknown.met, unknown.note) == (None, "not measured here")


def test_a_result_is_written_as_json_table_and_picture(tmp_path: Path) -> None:
    row = time_row("a", "b", 1.0, 0.5, Ratio(0.5, 0.4, 0.6), Settings(), bar=1.0)
    result = Result(
        bench="x", shape="s", method="m", settings=Settings(), rows=[row], facts={"f": 1.0}
    )
    save_result(result, tmp_path / "out")
    assert json.loads((tmp_path / "out/x.json").read_text())["rows"][0]["met"] is False
    assert "| a | b | 1.000 s | 500 ms | 0.50 [0.40, 0.60] | >= 1 | NO |" in (
        tmp_path / "out/x.md"
    ).read_text(encoding="utf-8")
    assert (tmp_path / "out/x.png").read_bytes().startswith(b"\x89PNG")


def test_the_title_of_a_plot_with_long_labels_is_not_cut() -> None:
    drawn = draw_ratios([("a label that is as long as those of videos are, nearly", 2, 1, 3, 1)])
    with Image.open(io.BytesIO(drawn)) as image:
        assert np.asarray(image.convert("L"))[:40, -6:].min() == 255  # rows of the title


@pytest.mark.parametrize(
    "name", ["decode", "score-text", "score-image", "loss", "train", "vq", "loader", "video"]
)
def test_every_benchmark_beside_others_runs_at_tiny_size(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (loss, score_text):  # a fresh process takes seconds; it is tested below
        monkeypatch.setattr(module, "peak_memory", work_here)
    monkeypatch.setattr(decode, "_NEW", 4)
    rival = "decord" if name == "video" else "transformers"
    if find_spec(rival) is None:  # importing decord before PyAV spoils PyAV
        pytest.skip(f"{rival} is not installed")
    out = tmp_path / "out"
    assert main(["bench", name, "--quick", "--json", "--threads", "1", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["bench"], result["quick"]) == (name, True)
    assert result["machine"]["threads"] == 1
    for row in result["rows"]:
        assert row.keys() >= {"name", "against", "ours", "theirs", "ratio", "bar", "met", "note"}
        assert row["met"] is None
    assert {p.suffix for p in out.iterdir()} == {".json", ".md", ".png"}


def work_here(
    prepare: Callable[..., Callable[[], object]], *arguments: object, threads: int
) -> int:
    """What a fresh process would do, with what it would be sent."""
    prepare, arguments = pickle.loads(pickle.dumps((prepare, arguments)))
    prepare(*arguments)()
    return threads


def test_a_matrix_is_scored_in_both_directions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pretrained(tiny_pretrained(), tmp_path / "model", "card\n")
    arguments = ["bench", "score-matrix", "--model", str(tmp_path / "model"), "--quick"]
    arguments += ["--threads", "1", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["shape"], result["rows"]) == ("4 pictures x 4 captions", [])
    for name in ("log p(text | image)", "log p(image | text)"):
        assert result["facts"][f"{name}, seconds"] > 0
        assert result["facts"][f"{name}, pictures that prefer their own caption"].endswith(" of 4")
    assert "log p(image | text), seconds: " in (tmp_path / "out/score-matrix.md").read_text()
    # Where a pair alone scores otherwise, nothing is timed.
    monkeypatch.setattr(score_matrix, "TOLERANCE", -1.0)
    assert main(arguments) == 2
    assert "answers that are not equal are not timed" in capsys.readouterr().err

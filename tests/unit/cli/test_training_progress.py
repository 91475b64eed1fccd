"""The progress of training where there is no terminal to draw on."""

import pytest

from genvlm.cli.parsing import progress_bar
from genvlm.cli.training_progress import tokenizer_progress, training_progress


def test_without_a_terminal_each_log_record_is_one_plain_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = {"loss": 3.0, "loss_text": 2.0, "loss_image": 4.5, "tokens_per_second": 1234.4}
    with training_progress() as progress:
        progress.say("training in 1 process, 1 x 4 samples each [of " + "x" * 100 + "]")
        progress.step(record | {"step": 5}, 10)
        progress.step(record | {"step": 10, "loss_text": 1.0}, 10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training in 1 process, 1 x 4 samples each [of " + "x" * 100 + "]",
        "step 5/10  loss: text 2.000 image 4.500  1234 tokens/s",
        "step 10/10  loss: text 1.000 image 4.500  1234 tokens/s",
    ]


def test_without_a_terminal_what_is_soon_done_writes_nothing_at_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("counting") as bar:
        bar(1, 2)
        bar(2, 2)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_what_takes_long_says_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("genvlm.cli.parsing.time.monotonic", lambda: now[0])
    with progress_bar("encoding pictures and clips") as bar, training_progress() as progress:
        for done, seconds in ((512, 20), (1024, 31), (1536, 40), (2048, 62), (4000, 95)):
            now[0] = seconds
            bar(done, 4000)
        progress.encode(1024, 1024)  # of files: how many there are is not known
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "encoding pictures and clips: 1,024 of 4,000",
        "encoding pictures and clips: 2,048 of 4,000",
        "encoding pictures and clips: 4,000",
        "encoding pictures and clips: 1,024",
    ]


def test_without_a_terminal_a_tokenizer_says_a_line_now_and_then_and_one_of_its_last_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("genvlm.cli.parsing.time.monotonic", lambda: now[0])
    with tokenizer_progress("training", 1100) as on_step:
        for step, seconds in ((20, 10), (1000, 31), (1020, 40), (1100, 41)):
            now[0] = seconds
            on_step(step, {"loss": step / 1e4})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training: step 1,000/1,100  loss 0.1000",
        "training: step 1,100/1,100  loss 0.1100",
    ]

"""The progress of training where there is no terminal to draw on."""

import pytest

from genvlm.cli.parsing import progress_bar
from genvlm.cli.training_progress import training_progress


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


def test_without_a_terminal_a_bar_writes_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("counting") as bar:
        bar(1, 2)
        bar(2, 2)
    assert capsys.readouterr() == ("", "")

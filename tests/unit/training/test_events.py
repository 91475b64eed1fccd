"""Spikes, drifting norms and lost steps on series whose truth is known."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.training import OptimizerConfig
from genvlm.testing.tiny import tiny_train_config
from genvlm.training.engine import Engine, StepResult
from genvlm.training.events import FEWEST, WINDOW, Event, EventDetector
from genvlm.training.loop import prepare_transformer
from genvlm.training.totals import Mean


def result(
    image: float = 5.0, text: float = 3.0, norms: tuple[float, float] = (40.0, 40.0)
) -> StepResult:
    means = {f"hidden_norm_{n}": Mean(v, 10) for n, v in zip(("image", "text"), norms, strict=True)}
    return StepResult({"image": image, "text": text}, {"image": 9, "text": 5}, 1.0, False, means)


def found(results: Iterable[StepResult], warmup_steps: int = 0) -> list[Event]:
    detector = EventDetector(warmup_steps)
    return [e for step, r in enumerate(results, 1) for e in detector.events(r, step)]


def falling(num: int, seed: int = 0) -> np.ndarray:
    """A loss curve: a power law with noise of varying size, as batches of unlike text give it."""
    rng = np.random.default_rng(seed)
    return 2 + 4 * (1 + np.arange(num) / 50) ** -0.5 + 0.1 * rng.standard_normal(num)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_spike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = rng.laplace(size=2000) * 0.05  # heavier tails than those of a normal distribution
    assert found(result(image=v) for v in falling(2000, seed) + gaps) == []


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_batches_of_two_kinds_are_no_spikes(share: float) -> None:
    rng = np.random.default_rng(0)
    losses = np.where(rng.random(1000) < share, 4.0, 2.5) + 0.05 * rng.standard_normal(1000)
    assert found(result(text=v) for v in losses) == []


def test_a_spike_is_found_once_with_its_step_and_what_was_usual() -> None:
    losses = falling(600)
    losses[400:410] += np.linspace(3, 1, 10)
    (event,) = found(result(image=v) for v in losses)
    assert (event.kind, event.step, event.name) == ("loss_spike", 401, "loss_image")
    assert event.value == losses[400]
    assert event.usual == pytest.approx(np.median(losses[400 - WINDOW : 400]))
    assert "step 401: loss_image jumped to" in event.sentence
    assert event.as_json()["event"] == "loss_spike"


def test_jumps_of_one_height_are_told_of_once_in_a_window_and_a_new_level_once() -> None:
    losses = np.full(900, 3.0) + 0.01 * np.random.default_rng(0).standard_normal(900)
    losses[[100, 150, 360]] = 6.0
    losses[200:210] = np.linspace(7, 9, 10)  # one jump that goes on
    assert [e.step for e in found(result(image=v) for v in losses)] == [101, 201, 361]
    losses[500:] += 2
    assert [e.step for e in found(result(image=v) for v in losses)] == [101, 201, 361, 501]
    losses[700] = 12.0  # against the new level
    assert [e.step for e in found(result(image=v) for v in losses)][4:] == [701]


def test_a_constant_loss_may_vary_a_little() -> None:
    losses = [3.0] * 200 + [3.1] + [3.0] * 50
    assert found(result(image=v) for v in losses) == []


def test_the_warm_up_is_not_looked_at() -> None:
    losses = [3.0] * 100 + [9.0] + [3.0] * 100
    assert [e.step for e in found(result(image=v) for v in losses)] == [101]
    assert found((result(image=v) for v in losses), warmup_steps=101) == []


def test_norms_that_grow_together_do_not_drift_and_one_alone_does() -> None:
    growth = np.exp(np.linspace(0, 1.5, 600))
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal((2, 600)))
    together = [
        result(norms=(40 * g * a, 80 * g * b)) for g, a, b in zip(growth, *noise, strict=True)
    ]
    assert found(together) == []
    alone = [result(norms=(40 * g * a, 80 * b)) for g, a, b in zip(growth, *noise, strict=True)]
    events = found(alone)
    assert [e.kind for e in events] == ["norm_drift"] * 3  # exp(1.5) is 1.5 to the power of 3.7
    assert {e.name for e in events} == {"hidden_norm_image / hidden_norm_text"}
    for event in events:
        assert event.usual is not None
        assert event.value / event.usual == pytest.approx(1.5, rel=0.05)
    # The median of FEWEST steps lags behind by half of them.
    truth = 0.5 * growth[events[0].step - 1 - FEWEST // 2]
    assert events[0].value == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(
    ("value", "usual", "apart"),
    [
        (2.1, 1.4, True),
        (2.13, 3.4, False),
        (1.37, 2.13, False),
        (0.4, 0.7, True),
        (0.7, 0.4, False),
    ],
)
def test_norms_that_come_closer_are_not_said_to_drift_apart(
    value: float, usual: float, apart: bool
) -> None:
    event = Event("norm_drift", 9, "hidden_norm_image / hidden_norm_text", value, usual)
    assert ("drift apart" in event.sentence) == apart
    assert ("come closer" in event.sentence) != apart


def test_lost_steps_are_events_and_their_numbers_disturb_nothing() -> None:
    steps = [result(image=v) for v in falling(300)]
    steps[200] = StepResult({"image": math.nan}, {"image": 9}, math.inf, True)
    (event,) = found(steps, warmup_steps=250)
    assert (event.kind, event.step, event.usual) == ("skipped", 201, None)
    assert "step 201: the gradient was not finite" in event.sentence


def test_a_run_that_diverges_is_told_of_at_the_step_where_it_does(tmp_path: Path) -> None:
    config = tiny_train_config(tmp_path)
    run = prepare_transformer(config, tmp_path / "cache")
    detector, events = EventDetector(warmup_steps=0), list[Event]()
    for rate, steps in ((3e-3, range(36)), (3.0, range(36, 41))):  # a rate far too high
        optimizer = OptimizerConfig(learning_rate=rate, warmup_steps=1, final_fraction=1.0)
        engine = Engine(run.objective, optimizer, num_steps=41, precision="float32")
        for step in steps:
            trained = engine.train_step(step, run.source.batch(step))
            events += detector.events(trained, step + 1)
        if rate < 1:
            assert events == []
    spikes = [event for event in events if event.kind == "loss_spike"]
    # The first step at the high rate still computes its loss with good weights.
    assert {event.name for event in spikes} == {"loss_text", "loss_image"}
    assert all(38 <= event.step <= 41 for event in spikes)
    assert all(event.value > 2 * (event.usual or 0) for event in spikes)

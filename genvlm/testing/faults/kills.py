"""kill -9 and SIGTERM at random moments, of saving alone and of whole runs."""

import os
import random
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from genvlm.models.model_folder import is_finished
from genvlm.testing.faults.children import Child, Ended, run_command
from genvlm.testing.faults.contents import tag_of, writer_of
from genvlm.testing.faults.row import Progress, Row, demand, none_damaged, run_trials, silent
from genvlm.testing.faults.runs import (
    RunEnd,
    demand_same,
    end_of,
    last_logged,
    tiny_run,
    warm_up,
    write_run,
)
from genvlm.training.checkpoint import (
    checkpoint_step,
    list_checkpoints,
    newest_valid,
    save_checkpoint,
)
from genvlm.training.run_folder import CHECKPOINTS, MODEL_FOLDER

_ROOT = Path(__file__).resolve().parents[3]
TERMINATED = 128 + signal.SIGTERM


def kill_saves(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """A child saves again and again, truly waiting for the disk, and is killed at some moment."""

    def trial(_number: int, rng: random.Random, own: Path) -> str:
        root = own / CHECKPOINTS
        reader, writer = os.pipe()

        def save_on() -> None:
            for step in range(1, 10_000):
                save_checkpoint(root, step, writer_of(f"{step}-0"), keep=2)
                os.write(writer, struct.pack("i", step))

        child = Child(save_on, own / "said.txt")
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            told.read(4)  # the first one stands
            time.sleep(rng.uniform(0, 0.08))
            child.kill()
            demand(child.wait().code == -signal.SIGKILL, "the child ended by itself")
            steps = [s for (s,) in struct.iter_unpack("i", told.read())]
        last = max(steps, default=1)
        unfinished = bool(list(root.glob(".*")))
        found = newest_valid(root, none_damaged)
        demand(found is not None, f"nothing is left of step {last}")
        step = checkpoint_step(found) if found is not None else 0
        demand(step in (last, last + 1), f"step {step} is resumed after {last} was saved")
        demand(found is None or tag_of(found) == f"{step}-0", f"{found} is spoilt")
        save_checkpoint(root, step + 1, writer_of(f"{step + 1}-0"), keep=2)
        names = sorted(p.name for p in root.iterdir())
        demand(len(names) == 2 and names[0].startswith("step-"), f"left behind: {names}")
        return "in the middle of a save" if unfinished else "between two"

    name = "kill -9 while saving"
    return run_trials(name, count, seed, folder, trial, progress=progress)


@dataclass(frozen=True)
class _Reference:
    """A run that nothing happened to."""

    arguments: list[str]
    end: RunEnd
    seconds: float
    checkpoint_every: int


def _reference(folder: Path, num_steps: int = 12, checkpoint_every: int = 3) -> _Reference:
    config = tiny_run(folder / "data", num_steps=num_steps, checkpoint_every=checkpoint_every)
    arguments = write_run(config, folder / "run.yaml")
    warm_up(config, folder / "warm")
    took = []
    for number in range(3):  # the first ones are slower: moments would lie behind the end
        out = folder / f"reference{number}"
        begin = time.monotonic()
        _train(arguments, out)
        took.append(time.monotonic() - begin)
    return _Reference(arguments, end_of(out), min(took), checkpoint_every)


def _train(arguments: list[str], out: Path, *more: str) -> Ended:
    ended = _start(arguments, out, *more).wait()
    demand(ended.code == 0, f"training ended with {ended.code}: {ended.said[-400:]}")
    return ended


def _start(arguments: list[str], out: Path, *more: str) -> Child:
    run = run_command([*arguments, "--out", str(out), *more])
    return Child(run, out.with_name(f"{out.name}{''.join(more)}.txt"))


def kill_runs(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """`genvlm train` is killed at some moment, resumed, and ends as if nothing had happened."""
    reference = _reference(folder / "reference")

    def trial(_number: int, rng: random.Random, own: Path) -> str:
        out = own / "run"
        child = _start(reference.arguments, out)
        time.sleep(rng.uniform(0, 1.1 * reference.seconds))
        child.kill()
        child.wait()
        found = newest_valid(out / CHECKPOINTS, none_damaged)
        saved = checkpoint_step(found) if found is not None else 0
        lost = last_logged(out) - saved
        demand(lost <= reference.checkpoint_every, f"{lost} steps are lost")
        _train(reference.arguments, out, "--resume")
        demand_same(out, reference.end)
        return f"resumed at step {saved}"

    name = "kill -9 of a run"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def terminate_runs(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """SIGTERM at some moment: exit code 143 and a sentence; resumed, it ends bitwise the same."""
    reference = _reference(folder / "reference")

    def trial(_number: int, rng: random.Random, own: Path) -> str:
        out = own / "run"
        child = _start(reference.arguments, out)
        time.sleep(rng.uniform(0, 1.1 * reference.seconds))
        child.kill(signal.SIGTERM)
        ended = child.wait()
        seen = _how_it_stopped(out, ended)
        _train(reference.arguments, out, "--resume")
        demand_same(out, reference.end)
        return seen

    name = "SIGTERM to a run"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def _how_it_stopped(out: Path, ended: Ended) -> str:
    """What SIGTERM met. Raises AssertionError where exit code, words and checkpoints disagree."""
    checkpoints = list_checkpoints(out / CHECKPOINTS)
    newest = checkpoint_step(checkpoints[-1]) if checkpoints else 0
    if is_finished(out / MODEL_FOLDER):
        demand(ended.code in (0, TERMINATED), f"exit code {ended.code}: {ended.said[-400:]}")
        return "at the end"
    if ended.code == -signal.SIGTERM and not ended.said and not checkpoints:
        return "before the command began"
    told = f"exit code {ended.code}: {ended.said[-400:]}"
    demand(ended.code == TERMINATED, told)
    demand("by SIGTERM" in ended.said and "Traceback" not in ended.said, told)
    demand(not list((out / CHECKPOINTS).glob(".*")), "half a checkpoint is left")
    logged = last_logged(out)
    if not checkpoints:
        demand(not logged, f"{logged} steps were trained and none saved")
        return "while starting"
    demand(f"at step {newest} by SIGTERM; go on with --resume" in ended.said, told)
    demand(logged == newest, f"step {newest} was saved and {logged} logged")
    return "while training" if newest < 12 else "while writing the model"


def terminate_starting_commands(
    count: int, seed: int, folder: Path, progress: Progress = silent
) -> Row:
    """SIGTERM to a process of its own within its first seconds, of which most go to imports."""
    reference = _reference(folder / "reference")
    code = "import sys; from genvlm.cli.main import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}

    def trial(_number: int, rng: random.Random, own: Path) -> str:
        out = own / "run"
        command = [sys.executable, "-c", code, *reference.arguments, "--out", str(out)]
        with (own / "said.txt").open("wb") as file, subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=_ROOT
        ) as process:  # fmt: skip
            time.sleep(rng.uniform(0, 3.5))
            process.send_signal(signal.SIGTERM)
            exit_code = process.wait(120)
        seen = (own / "said.txt").read_text()
        demand("Traceback" not in seen, seen[-400:])
        if is_finished(out / MODEL_FOLDER):
            # Behind its last line the command no longer minds signals.
            demand(exit_code in (0, TERMINATED, -signal.SIGTERM), f"exit code {exit_code}: {seen}")
            return "at the end"
        if exit_code == -signal.SIGTERM:  # 143 for a shell
            demand(not seen and not out.exists(), f"killed while working: {seen}")
            return "before the command began"
        demand(exit_code in (0, TERMINATED), f"exit code {exit_code}: {seen[-400:]}")
        demand(exit_code == 0 or "by SIGTERM" in seen, f"nothing said: {seen[-400:]}")
        _train(reference.arguments, out, "--resume")
        demand_same(out, reference.end)
        return f"exit code {exit_code}"

    name = "SIGTERM to a starting command"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)

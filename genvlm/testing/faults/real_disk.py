"""Real small disks: full ones and read-only ones. They need the right to mount a tmpfs."""

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genvlm.testing.faults.children import Child, run_command
from genvlm.testing.faults.row import Progress, Row, demand, none_damaged, run_trials, silent
from genvlm.testing.faults.runs import (
    demand_same,
    end_of,
    last_logged,
    tiny_run,
    warm_up,
    write_run,
)
from genvlm.training.checkpoint import checkpoint_step, newest_valid
from genvlm.training.run_folder import CHECKPOINTS

_ENOUGH = "64m"


def cannot_mount(folder: Path) -> str | None:
    """Why no tmpfs can be mounted, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with small_disk(folder, "1m"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return " ".join(str(said).split())


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


def fill_real_disk(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """`genvlm train` on disks of `count` sizes, from hardly any to nearly enough.

    Once the disk is larger the run goes on, and ends as if nothing had happened.
    """
    name = "real disk full"
    if (why := cannot_mount(folder / "probe")) is not None:
        return Row(name, 0, (), 0.0, f"SKIPPED: no tmpfs can be mounted here ({why})")
    config = tiny_run(folder / "data", num_steps=6, checkpoint_every=2)
    arguments = write_run(config, folder / "run.yaml")
    warm_up(config, folder / "warm")
    with small_disk(folder / "whole", _ENOUGH) as disk:
        demand(_run(arguments, disk / "run", folder / "said.txt").wait().code == 0, "no run at all")
        end = end_of(disk / "run")
        needed = sum(p.stat().st_blocks * 512 for p in disk.rglob("*"))

    def trial(number: int, _rng: random.Random, own: Path) -> str:
        size = (number + 1) * (needed + needed // 4) // count // 4096 * 4096 + 4096
        with small_disk(own / "disk", str(size)) as disk:
            out = disk / "run"
            ended = _run(arguments, out, own / "said.txt").wait()
            if ended.code == 0:
                demand_same(out, end)
                return "large enough"
            demand(ended.code == 2, f"exit code {ended.code}: {ended.said[-500:]}")
            demand("Traceback" not in ended.said and str(out) in ended.said, ended.said[-500:])
            demand("make room" in ended.said, f"no mend is told: {ended.said[-300:]}")
            found = newest_valid(out / CHECKPOINTS, none_damaged)
            saved = checkpoint_step(found) if found is not None else 0
            demand(last_logged(out) - saved <= 2, f"step {last_logged(out)} logged, {saved} saved")
            _mount("-o", f"remount,size={_ENOUGH}", str(disk))
            ended = _run(arguments, out, own / "again.txt", "--resume").wait()
            demand(ended.code == 0, f"cannot be resumed: {ended.said[-500:]}")
            demand_same(out, end)
        return f"full after step {saved} was saved"

    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def read_only_disk(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """A run is begun, or resumed, on a disk that is read-only."""
    name = "real disk read-only"
    if (why := cannot_mount(folder / "probe")) is not None:
        return Row(name, 0, (), 0.0, f"SKIPPED: no tmpfs can be mounted here ({why})")
    config = tiny_run(folder / "data", num_steps=4, checkpoint_every=2)
    arguments = write_run(config, folder / "run.yaml")
    warm_up(config, folder / "warm")

    def trial(number: int, _rng: random.Random, own: Path) -> str:
        resumed = number % 2 == 1
        with small_disk(own / "disk", _ENOUGH) as disk:
            out = disk / "run"
            if resumed:
                _run(arguments, out, own / "before.txt").wait()
            time.sleep(0.01)
            _mount("-o", "remount,ro", str(disk))
            more = ["--resume"] if resumed else []
            ended = _run(arguments, out, own / "said.txt", *more).wait()
            demand(ended.code == 2, f"exit code {ended.code}: {ended.said[-500:]}")
            for words in (str(out), "Read-only file system", "choose a folder that can be written"):
                demand(words in ended.said, f"{words!r} is not said: {ended.said[-500:]}")
            _mount("-o", "remount,rw", str(disk))
            ended = _run(arguments, out, own / "again.txt", *more).wait()
            demand(ended.code == 0, f"not made good: {ended.said[-500:]}")
        return "resumed" if resumed else "begun"

    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def _run(arguments: list[str], out: Path, said: Path, *more: str) -> Child:
    return Child(run_command([*arguments, "--out", str(out), *more]), said)

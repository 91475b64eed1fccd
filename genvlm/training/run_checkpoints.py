"""The checkpoints of a run: engine and average of weights together, resumed and published."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from genvlm.errors import CheckpointError
from genvlm.training.checkpoint import (
    SHARED_PARTS,
    checkpoint_folder,
    checkpoint_step,
    newest_valid,
    save_checkpoint,
)
from genvlm.training.ema import WeightAverage
from genvlm.training.engine import Engine

_NONE_IS_VALID = -1


@dataclass(frozen=True)
class RunCheckpoints:
    """Engine and average, kept together."""

    root: Path
    engine: Engine
    average: WeightAverage | None

    def agree(self, inputs: Mapping[str, str]) -> None:
        """Called in every process, before anything is loaded or saved.

        Args:
            inputs: fingerprints of what this process trains with.

        Raises:
            CheckpointError: in every process, where one trains with something else or sees another
                folder: they would train apart, and a checkpoint would lack its part.
        """
        engine = self.engine
        if engine.num_processes == 1:
            return
        for name, fingerprint in inputs.items():
            seen = engine.numbers(int(hashlib.sha256(fingerprint.encode()).hexdigest()[:15], 16))
            for rank, number in enumerate(seen):
                if number != seen[0]:
                    raise CheckpointError(
                        f"process {rank} has another {name} than process 0: give both the same "
                        f"files"
                    )
        if engine.is_main:
            self.root.mkdir(exist_ok=True)
        # A new name, that no file system can remember as missing.
        marks = [
            self.root / f"{SHARED_PARTS}{engine.numbers(time.time_ns())[0]}-{rank}"
            for rank in range(engine.num_processes)
        ]
        with contextlib.suppress(OSError):  # process 0 misses it then
            marks[engine.rank].touch()
        engine.wait()
        missing = [rank for rank, mark in enumerate(marks) if not mark.exists()]
        unseen = engine.numbers(missing[0] if missing else 0)[0]
        with contextlib.suppress(OSError):
            marks[engine.rank].unlink()
        if unseen:
            raise CheckpointError(
                f"process 0 does not see what process {unseen} writes into {self.root}: give all "
                f"an --out on a disk that they share"
            )

    def resume(self, num_steps: int, say: Callable[[str], None]) -> int:
        """The step to go on from, after loading the newest valid checkpoint.

        Called in every process; the first one alone looks for it, and speaks.

        Raises:
            CheckpointError: there are checkpoints and none of them is valid.
        """
        engine, start = self.engine, 0
        if engine.is_main:
            try:
                folder = newest_valid(self.root, say)
            except CheckpointError:
                engine.numbers(_NONE_IS_VALID)
                raise
            start = checkpoint_step(folder) if folder else 0
        start = engine.numbers(start)[0]
        if start == _NONE_IS_VALID:
            raise CheckpointError(f"process 0 found no valid checkpoint in {self.root}")
        if start:
            folder = checkpoint_folder(self.root, start)
            engine.load(folder)
            if self.average is not None:
                self.average.load(folder)
        if engine.is_main:
            say(
                f"resumed at step {start}{' and finished already' if start >= num_steps else ''}"
                if start
                else f"{self.root} holds no checkpoint: beginning at step 0"
            )
        return start

    def save(self, step: int) -> None:
        """Publish a checkpoint. Called in every process.

        Raises:
            TrainingError: weights or optimizer state are not finite.
        """
        engine = self.engine
        engine.check_finite(step)
        if engine.num_processes == 1:
            save_checkpoint(self.root, step, self._write)
            return
        # Every process writes its part into one shared folder; the first one publishes it.
        shared = self.root / f"{SHARED_PARTS}{step:08d}"
        self._write(shared)
        engine.wait()
        if engine.is_main:
            save_checkpoint(self.root, step, lambda folder: _move_into(shared, folder))
        engine.wait()

    def _write(self, folder: Path) -> None:
        self.engine.save(folder)
        if self.average is not None:
            self.average.save(folder)


def _move_into(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
    source.rmdir()

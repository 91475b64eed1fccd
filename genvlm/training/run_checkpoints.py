"""The checkpoints of a run: engine and average of weights together, resumed and published."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genvlm.training.checkpoint import (
    SHARED_PARTS,
    checkpoint_step,
    newest_valid,
    save_checkpoint,
)
from genvlm.training.ema import WeightAverage
from genvlm.training.engine import Engine


@dataclass(frozen=True)
class RunCheckpoints:
    """Engine and average, kept together."""

    root: Path
    engine: Engine
    average: WeightAverage | None

    def resume(self, num_steps: int, say: Callable[[str], None]) -> int:
        """The step to go on from, after loading the newest valid checkpoint."""
        folder = newest_valid(self.root, say)
        if folder is None:
            say(f"{self.root} holds no checkpoint: beginning at step 0")
            return 0
        self.engine.load(folder)
        if self.average is not None:
            self.average.load(folder)
        start = checkpoint_step(folder)
        say(f"resumed at step {start}{' and finished already' if start >= num_steps else ''}")
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

"""All rows of the table of faults: what makes each, how often, and how the table is written."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genvlm.testing.faults.row import Progress, Row


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    """For `--only`."""
    function: str
    """Module and name of `(count, seed, folder, progress) -> Row`, imported when it is run."""
    count: int
    quick: int
    """Count of `--quick`."""
    in_memory: bool = False
    """Whether no real disk is needed: a memory file system saves hours of waiting for one."""

    def run(self, seed: int, folder: Path, progress: Progress, *, quick: bool) -> Row:
        """Make the faults. `folder` does not exist yet, or is empty."""
        return self.load()(self.quick if quick else self.count, seed, folder, progress)

    def load(self) -> Callable[[int, int, Path, Progress], Row]:
        """The function."""
        module, name = self.function.split(":")
        found: Callable[[int, int, Path, Progress], Row] = getattr(
            importlib.import_module(f"genvlm.testing.faults.{module}"), name
        )
        return found


FAULTS: Sequence[Fault] = (
    Fault("kill-saves", "kills:kill_saves", 200, 20),
    Fault("kill-runs", "kills:kill_runs", 50, 5),
    Fault("power-saves", "saving:stop_saves", 12, 1, in_memory=True),
    Fault("power-publishing", "saving:stop_publishing", 12, 2, in_memory=True),
    Fault("full-simulated", "saving:fill_disk", 50, 10, in_memory=True),
    Fault("full-real", "real_disk:fill_real_disk", 50, 8),
    Fault("read-only", "real_disk:read_only_disk", 10, 2),
    Fault("damage", "damage:damage_checkpoints", 1000, 54, in_memory=True),
    Fault("rotation", "damage:rotate_checkpoints", 500, 20, in_memory=True),
    Fault("sigterm", "kills:terminate_runs", 100, 12),
    Fault("sigterm-start", "kills:terminate_starting_commands", 20, 2),
    Fault("resume", "resuming:resume_at_every_step", 50, 6),
    Fault("resume-twice", "resuming:resume_twice_in_an_epoch", 16, 2),
    Fault("resume-accumulation", "resuming:stop_within_accumulation", 20, 3),
    Fault("ledger", "resuming:keep_ledger", 20, 5),
    Fault("processes", "other_tests:change_processes", 1, 1),
    Fault("exits", "exits:exit_in_pairs", 50, 2),
    Fault("nan", "not_finite:spoil_numbers", 60, 6),
    Fault("nan-processes", "other_tests:nan_in_one_process", 1, 1),
    Fault("fingerprints", "refusals:change_what_a_run_reads", 36, 9),
    Fault("two-runs", "refusals:share_a_folder", 30, 3),
    Fault("vanished", "refusals:lose_the_folder", 20, 4),
    Fault("images", "hostile_inputs:damaged_images", 10_000, 200, in_memory=True),
    Fault("videos", "hostile_inputs:damaged_videos", 1_000, 30, in_memory=True),
    Fault("bombs", "hostile_inputs:detonate_bombs", 100, 4, in_memory=True),
    Fault("archives", "hostile_inputs:unpack_archives", 100, 12, in_memory=True),
    Fault("pickles", "hostile_inputs:load_pickles", 100, 7, in_memory=True),
)


def as_table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| fault | count | not survived | seconds | what was met |", "|---|--:|--:|--:|---|"]
    lines += [
        f"| {row.name} | {row.count:,} | {len(row.failures)} | {row.seconds:,.0f} | {row.note} |"
        for row in rows
    ]
    return "\n".join(lines)

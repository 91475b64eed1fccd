"""A save that is stopped at every operation with the power lost, or that meets a full disk."""

import random
import shutil
from pathlib import Path

from genvlm.errors import StorageError
from genvlm.models.model_folder import MANIFEST, publish_model_folder
from genvlm.nn.whole_files import hash_file, make_folders, restore_replaced, write_whole
from genvlm.testing.faults.contents import tag_of, writer_of
from genvlm.testing.faults.row import Progress, Row, demand, none_damaged, run_trials, silent
from genvlm.testing.faults.simulated_disk import SURVIVORS, HastyDisk, SimulatedDisk
from genvlm.training.checkpoint import list_checkpoints, newest_valid, save_checkpoint

_ROOT = Path("run") / "checkpoints"


def stop_saves(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Histories of saves, stopped at each operation of each save, with all that may survive."""
    stops = 0

    def trial(_number: int, rng: random.Random, own: Path) -> None:
        nonlocal stops
        stops += _stop_one_history(rng, own)

    name = "power lost at every operation of saving"
    row = run_trials(name, count, seed, folder, trial, progress=progress)
    note = f"{count} histories of four saves, each operation, four ways of losing what is unsynced"
    return Row(name, stops, row.failures, row.seconds, note)


def _stop_one_history(rng: random.Random, folder: Path) -> int:
    """Returns the number of stops."""
    live, left = folder / "live", folder / "left"
    live.mkdir()
    keep, stops = rng.randint(1, 3), 0
    saved: list[str] = []
    running = ""

    def stop() -> None:
        nonlocal stops
        for survivors in SURVIVORS:
            disk.leave(left, survivors, rng)
            (left / _ROOT.parent).mkdir(exist_ok=True)
            _check_resumes(left / _ROOT, saved[-1] if saved else None, running, keep)
            shutil.rmtree(left)
            stops += 1

    disk = SimulatedDisk(live, before=stop, exchanges=rng.random() < 0.7)
    make_folders(live / _ROOT.parent, disk=disk)
    step = 1
    for number in range(4):
        running = f"{step}-{number}"
        save_checkpoint(live / _ROOT, step, writer_of(running), keep=keep, disk=disk)
        saved.append(running)
        running = ""
        stop()
        step += rng.randint(0, 2)  # the same step again replaces it
    return stops


def _check_resumes(root: Path, last: str | None, running: str, keep: int) -> None:
    """The newest checkpoint is the last one that was saved or that which was being saved."""
    found = newest_valid(root, none_damaged)
    tag = tag_of(found) if found is not None else None
    demand(tag in (last, running), f"resumes {tag} instead of {last} or {running}")
    demand(found is None or tag is None or found.name.endswith(tag.split("-")[0]), "misnamed")
    save_checkpoint(root, 99, writer_of("99-after"), keep=keep, disk=HastyDisk())
    newest = newest_valid(root, none_damaged)
    demand(newest is not None and tag_of(newest) == "99-after", "the next save is not the newest")
    names = sorted(p.name for p in root.iterdir())
    demand(len(names) <= keep and all(n.startswith("step-") for n in names), f"left: {names}")


def stop_publishing(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """A model folder that replaces another, and a small file that does, stopped at each operation.

    Without a swap of folders there is a moment when neither has the name: the old one is then
    brought back by the next publishing.
    """
    stops = 0

    def trial(number: int, rng: random.Random, own: Path) -> None:
        nonlocal stops
        stops += _stop_publishing_once(rng, own, exchanges=number % 2 == 0)

    name = "power lost at every operation of publishing a model"
    row = run_trials(name, count, seed, folder, trial, progress=progress)
    return Row(name, stops, row.failures, row.seconds)


def _stop_publishing_once(rng: random.Random, folder: Path, *, exchanges: bool) -> int:
    live, left = folder / "live", folder / "left"
    live.mkdir()
    model, text = "model", "config.yaml"
    publish_model_folder(live / model, writer_of("old"))
    write_whole(live / text, "old")
    stops, done = 0, ["old"]

    def stop() -> None:
        nonlocal stops
        for survivors in SURVIVORS:
            disk.leave(left, survivors, rng)
            if not exchanges:
                restore_replaced(left / model)
            demand(_published_tag(left / model) in {*done, "new"}, "the folder is of neither")
            demand((left / text).read_text() in ("old", "new"), "the file is of neither")
            publish_model_folder(left / model, writer_of("next"), disk=HastyDisk())
            demand(_published_tag(left / model) == "next", "the next one is not published")
            kept = [p.name for p in left.iterdir() if p.name.startswith(".")]
            demand(not kept, f"left behind: {kept}")
            shutil.rmtree(left)
            stops += 1

    disk = SimulatedDisk(live, before=stop, exchanges=exchanges)
    publish_model_folder(live / model, writer_of("new"), disk=disk)
    done.clear()  # from here on only the new one will do
    stop()
    write_whole(live / text, "new", disk=disk)
    stop()
    return stops


def _published_tag(folder: Path) -> str:
    import json

    for name, expected in json.loads((folder / MANIFEST).read_text()).items():
        demand(hash_file(folder / name) == expected, f"{name} is not what the manifest says")
    return tag_of(folder)


def fill_disk(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """A disk that is full at `count` evenly spread points of a save, in the middle of files too."""
    measured = folder / "measured"
    measured.mkdir(parents=True)
    disk = _history(measured, None)
    begin = disk.spent
    _save(measured, 3, disk)
    length = disk.spent - begin
    shutil.rmtree(measured)

    def trial(number: int, rng: random.Random, own: Path) -> str:
        disk = _history(own, None)
        disk.space = disk.spent + length * number // count
        return _meet_full_disk(own, disk)

    return run_trials("disk full while saving", count, seed, folder, trial, progress=progress)


def _history(top: Path, space: int | None) -> SimulatedDisk:
    disk = SimulatedDisk(top, space=space)
    make_folders(top / _ROOT.parent, disk=disk)
    for step in (1, 2):
        _save(top, step, disk)
    return disk


def _save(top: Path, step: int, disk: SimulatedDisk) -> None:
    save_checkpoint(top / _ROOT, step, writer_of(f"{step}-0", disk.write_bytes), disk=disk)


def _meet_full_disk(top: Path, disk: SimulatedDisk) -> str:
    root = top / _ROOT
    try:
        _save(top, 3, disk)
    except StorageError as error:
        said = str(error)
    else:
        raise AssertionError("the disk was full and nobody said so")
    for words in (str(root), "No space left on device", "make room", "is whole", "--resume"):
        demand(words in said, f"{words!r} is not said: {said}")
    found = newest_valid(root, none_damaged)
    demand(found is not None and tag_of(found) in ("2-0", "3-0"), f"{found} is resumed")
    demand(not list(root.glob(".*")), f"left behind: {list(root.glob('.*'))}")
    for folder in list_checkpoints(root):
        demand(tag_of(folder) == f"{int(folder.name[-8:])}-0", f"{folder} is spoilt")
    disk.space = None
    _save(top, 4, disk)
    names = [p.name for p in sorted(root.iterdir())]
    demand(names[-1] == "step-00000004" and len(names) == 2, f"after making room: {names}")
    return f"refused with {found.name[-1] if found else 'no'} newest"

"""Damaged checkpoints, and histories of saves, kills, damage and resumes."""

import contextlib
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from genvlm.errors import CheckpointError
from genvlm.testing.faults.contents import tag_of, writer_of
from genvlm.testing.faults.row import Progress, Row, demand, run_trials, silent
from genvlm.testing.faults.simulated_disk import HastyDisk, SimulatedDisk
from genvlm.training.checkpoint import (
    list_checkpoints,
    newest_valid,
    save_checkpoint,
    verify_checkpoint,
)

_MANIFEST = "manifest.json"
Damage = Callable[[random.Random, Path, Path], None]
"""Spoils the first of two checkpoints; the second is an earlier one."""


def damage_checkpoints(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """The newest of two is spoilt in one of all ways: it is named, and the other one is taken."""
    sound = folder / "sound"
    for step in (4, 8):
        save_checkpoint(sound, step, writer_of(f"{step}-0"), disk=HastyDisk())

    def trial(number: int, rng: random.Random, own: Path) -> str:
        root = Path(shutil.copytree(sound, own / "checkpoints"))
        older, newest = list_checkpoints(root)
        damage = DAMAGES[number % len(DAMAGES)]
        before = state_of(root)
        for _ in range(100):  # half of an empty file is the same file
            damage(rng, newest, older)
            if state_of(root) != before:
                break
        else:
            raise AssertionError(f"{damage.__name__} changed nothing")
        return _expect_the_older(root, damage.__name__)

    return run_trials("damaged checkpoints", count, seed, folder, trial, progress=progress)


def _expect_the_older(root: Path, damage: str) -> str:
    said: list[str] = []
    found = newest_valid(root, said.append)
    demand(found is not None and found.name == "step-00000004", f"{damage}: {found} is resumed")
    newest = list_checkpoints(root)[-1].name
    demand(len(said) == 1 and newest in said[0], f"{damage}: {newest} is not named in {said}")
    demand(found is not None and tag_of(found) == "4-0", "the older one is spoilt")
    return damage.strip("_").replace("_", " ")


def _any_file(rng: random.Random, folder: Path) -> Path:
    return rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))


def _one_bit_flipped(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest)
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def _cut(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size or 1)])


def _lengthened(rng: random.Random, newest: Path, _older: Path) -> None:
    more = rng.choice((b"\n", b" ", b"\0", rng.randbytes(rng.randint(1, 600))))
    with _any_file(rng, newest).open("ab") as file:
        file.write(more)


def _block_of_zeros(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest)
    data = bytearray(path.read_bytes())
    begin = rng.randrange(len(data) or 1)
    end = min(len(data), begin + 512)
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)


def _emptied(rng: random.Random, newest: Path, _older: Path) -> None:
    _any_file(rng, newest).write_bytes(b"")


def _file_deleted(rng: random.Random, newest: Path, _older: Path) -> None:
    _any_file(rng, newest).unlink()


def _file_renamed(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest)
    path.rename(path.with_name(path.name + rng.choice((".bak", "~", "2"))))


def _file_of_the_older(rng: random.Random, newest: Path, older: Path) -> None:
    path = _any_file(rng, newest)
    shutil.copyfile(older / path.relative_to(newest), path)


def _two_files_swapped(rng: random.Random, newest: Path, _older: Path) -> None:
    first, second = _any_file(rng, newest), _any_file(rng, newest)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def _older_under_the_name(_rng: random.Random, newest: Path, older: Path) -> None:
    shutil.rmtree(newest)
    shutil.copytree(older, newest)


def _folder_renamed(rng: random.Random, newest: Path, _older: Path) -> None:
    newest.rename(newest.with_name(f"step-{rng.randint(9, 10**8 - 1):08d}"))


def _file_added(rng: random.Random, newest: Path, _older: Path) -> None:
    folder = rng.choice((newest, newest / "model"))
    (folder / rng.choice(("pytorch_model.bin", ".hidden", "x.pkl"))).write_bytes(b"more")


def _link_added(rng: random.Random, newest: Path, _older: Path) -> None:
    (newest / f"link{rng.random()}").symlink_to("/dev/null")


def _file_replaced_by_a_link(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest / "model")
    elsewhere = newest.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _file_replaced_by_a_folder(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest)
    path.unlink()
    path.mkdir()


def _file_replaced_by_a_pipe(rng: random.Random, newest: Path, _older: Path) -> None:
    path = _any_file(rng, newest / "model")
    path.unlink()
    os.mkfifo(path)


def _line_of_the_manifest_and_its_file_gone(rng: random.Random, newest: Path, _older: Path) -> None:
    content = json.loads((newest / _MANIFEST).read_text())
    name = rng.choice(sorted(content["files"]))
    del content["files"][name]
    (newest / name).unlink()
    (newest / _MANIFEST).write_text(json.dumps(content, indent=1))


def _manifest_edited(rng: random.Random, newest: Path, _older: Path) -> None:
    content = json.loads((newest / _MANIFEST).read_text())
    name = rng.choice(sorted(content["files"]))
    match rng.randrange(7):
        case 0:
            content["step"] = rng.randrange(100)
        case 1:
            content["files"][name] = hashlib.sha256(rng.randbytes(4)).hexdigest()
        case 2:
            content["files"][name] = content["files"][name].upper()
        case 3:
            content["files"]["../" + name] = content["files"].pop(name)
        case 4:
            del content[rng.choice(sorted(content))]
        case 5:
            content[rng.choice(sorted(content))] = rng.choice((None, 3, [], "x", {}, True))
        case _:
            content["files"] = dict(reversed(content["files"].items()))
    (newest / _MANIFEST).write_text(json.dumps(content, indent=rng.choice((1, 1, 2, None))))


DAMAGES: tuple[Damage, ...] = (
    _one_bit_flipped, _cut, _lengthened, _block_of_zeros, _emptied, _file_deleted, _file_renamed,
    _file_of_the_older, _two_files_swapped, _older_under_the_name, _folder_renamed, _file_added,
    _link_added, _file_replaced_by_a_link, _file_replaced_by_a_folder, _file_replaced_by_a_pipe,
    _line_of_the_manifest_and_its_file_gone, _manifest_edited,
)  # fmt: skip


def state_of(folder: Path) -> object:
    """Names, kinds and bytes of all that a folder holds."""
    return [
        (str(p.relative_to(folder)), p.lstat().st_mode, p.read_bytes() if _plain(p) else None)
        for p in sorted(folder.rglob("*"))
    ]


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


class _Killed(BaseException):
    """kill -9: nothing that catches errors runs."""


def rotate_checkpoints(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Random histories: whatever a save deletes, a checkpoint that can be read stays."""

    def trial(_number: int, rng: random.Random, own: Path) -> None:
        _RotationHistory(own / "checkpoints", rng).run(rng.randint(6, 14))

    return run_trials("histories of rotation", count, seed, folder, trial, progress=progress)


class _RotationHistory:
    """A run that saves, is killed, damaged and resumed, some steps on each time."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        self.step, self.keep = 0, rng.randint(1, 4)

    def run(self, num_events: int) -> None:
        """Saves come often, or there would be nothing to lose."""
        events = [self.save, self.save, self.save_and_die, self.save_on_a_bad_disk, self.damage,
                  self.resume]  # fmt: skip
        for _ in range(num_events):
            whole = self.whole()
            event = self.rng.choice(events)
            event()
            left = self.whole()
            if event != self.damage:
                demand(left or not whole, f"{event.__name__} lost the last one of {whole}")
                kept = set(whole) & set(left)
                demand(
                    kept or max(left, default=0) > max(whole, default=-1),
                    f"{event.__name__} left {left} of {whole}",
                )

    def whole(self) -> list[int]:
        """Steps of the checkpoints that can be read."""
        found = []
        for folder in list_checkpoints(self.root):
            try:
                verify_checkpoint(folder)
            except CheckpointError:
                continue
            found.append(int(folder.name[-8:]))
        return found

    def save(self) -> None:
        """And go on."""
        self._advance()
        save_checkpoint(
            self.root, self.step, writer_of(f"{self.step}-0"), keep=self.keep, disk=HastyDisk()
        )
        demand(self.step in self.whole(), "what was saved is not there")
        demand(len(list_checkpoints(self.root)) <= self.keep, "too many stay")

    def save_and_die(self) -> None:
        """At any operation; then resume."""
        self._advance()
        left = self.rng.randint(0, 40)

        def before() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _Killed

        self._save_with(before, _Killed)
        self.resume()

    def save_on_a_bad_disk(self) -> None:
        """That changes a bit of what it was given; said at once, and nothing deleted."""
        self._advance()
        before = list_checkpoints(self.root)
        spoilt = False

        def spoil() -> None:
            nonlocal spoilt
            for manifest in self.root.glob(f".tmp-{self.step:08d}-*/{_MANIFEST}"):
                if not spoilt and self.rng.random() < 0.2:
                    _one_bit_flipped(self.rng, manifest.parent / "model", self.root)
                    spoilt = True

        self._save_with(spoil, CheckpointError)
        if self.step not in self.whole():
            gone = set(before) - set(list_checkpoints(self.root))
            demand(not gone, f"{gone} deleted although the new one cannot be read")

    def damage(self) -> None:
        """One of them, in one way."""
        found = list_checkpoints(self.root)
        if len(found) >= 2:
            victim = self.rng.choice(found)
            other = self.rng.choice([p for p in found if p != victim])
            if (victim / _MANIFEST).is_file() and (other / _MANIFEST).is_file():
                _one_bit_flipped(self.rng, victim, other)

    def resume(self) -> None:
        """From the newest that can be read; where none can, from the beginning."""
        try:
            found = newest_valid(self.root, lambda message: None)
        except CheckpointError:
            shutil.rmtree(self.root)
            found = None
        if found is not None:
            demand(tag_of(found) == f"{int(found.name[-8:])}-0", f"{found} is spoilt")
        self.step = int(found.name[-8:]) if found is not None else 0

    def _advance(self) -> None:
        self.step += self.rng.randint(1, 3)

    def _save_with(self, before: Callable[[], None], expected: type[BaseException]) -> None:
        self.root.mkdir(exist_ok=True)
        disk = SimulatedDisk(self.root, before=before, exchanges=self.rng.random() < 0.5)
        with contextlib.suppress(expected):
            save_checkpoint(
                self.root, self.step, writer_of(f"{self.step}-0"), keep=self.keep, disk=disk
            )

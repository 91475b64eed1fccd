"""Files that somebody else wrote to do harm, or that were damaged on their way."""

import random
import re
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from genvlm.data.archives import extract_archive
from genvlm.data.child import Child, ChildFailed, ChildLimits
from genvlm.data.raw import Media
from genvlm.data.videos import VideoDecoder
from genvlm.errors import DataError, GenvlmError, VideoError
from genvlm.testing.bombs import MEMORY, Bomb, bombs
from genvlm.testing.faults.row import Progress, Row, demand, run_trials, silent
from genvlm.testing.fuzz import FuzzReport, fuzz_images, fuzz_videos
from genvlm.testing.hostile_archives import LIMITS, hostile_archives
from genvlm.testing.hostile_pickles import hostile_pickles, load_naively
from genvlm.testing.pickle_readers import READERS, PickleReader

T = TypeVar("T")


def damaged_images(count: int, seed: int, _folder: Path, progress: Progress = silent) -> Row:
    """Each gives a picture or an ImageError, twice the same."""
    return _of_report("damaged pictures", fuzz_images, count, seed, progress)


def damaged_videos(count: int, seed: int, _folder: Path, progress: Progress = silent) -> Row:
    """Each gives frames or a VideoError, twice the same."""
    return _of_report("damaged videos", fuzz_videos, count, seed, progress)


def _of_report(
    name: str,
    fuzz: Callable[[int, int, Callable[[int], None]], FuzzReport],
    count: int,
    seed: int,
    progress: Progress,
) -> Row:
    begin = time.monotonic()
    report = fuzz(count, seed, lambda done: progress(done, count))
    failures = [f"{number}: {said}" for number, said in report.faults.items()]
    failures += [f"{number}: another outcome the second time" for number in report.unstable]
    outcomes = {name: times for name, times in report.counts.items() if " " not in name}
    note = ", ".join(f"{times} {outcome}" for outcome, times in sorted(outcomes.items()))
    return Row(name, report.num, tuple(failures), time.monotonic() - begin, note)


def detonate_bombs(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Each is refused, or its first frames are read, in 64 MB of memory beside imports."""
    chosen = _some(bombs(), count, seed)
    return run_trials(
        "bombs", len(chosen), seed, folder, lambda n, _rng, _own: _detonate(chosen[n]),
        progress=progress,
    )  # fmt: skip


def _detonate(bomb: Bomb) -> str:
    limits = ChildLimits(seconds=20, memory=MEMORY)
    said = _decode_image(bomb, limits) if bomb.kind == "image" else _decode_video(bomb, limits)
    if bomb.refused:
        demand(re.search(bomb.refused, said), f"{bomb.name}: {said or 'it was read'}")
        return "refused"
    demand(not said, f"{bomb.name}: {said}")
    return "read"


def _decode_image(bomb: Bomb, limits: ChildLimits) -> str:
    """What was said against it."""
    child = Child("genvlm.testing.image_child", limits)
    try:
        answer, _ = child.ask({"name": "bomb"}, bomb.make())
    except ChildFailed as error:
        raise AssertionError(f"{bomb.name}: {error}") from None
    finally:
        child.close()
    outcome = answer.get("outcome")
    demand(outcome in ("picture", "refused"), f"{bomb.name}: {answer}")
    return "" if outcome == "picture" else str(answer["said"])


def _decode_video(bomb: Bomb, limits: ChildLimits) -> str:
    with VideoDecoder(limits=limits) as decoder:
        video = Media(kind="video", name="bomb", content=bomb.make())
        try:
            decoder.decode(video, max_frames=4, max_side=64)
        except VideoError as error:
            return str(error)
    return ""


def unpack_archives(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Of none anything is unpacked, inside or outside of the folder, and each refusal says why."""
    chosen = _some(hostile_archives(folder / "archives"), count, seed)

    def trial(number: int, _rng: random.Random, own: Path) -> None:
        path, why = chosen[number]
        try:
            extract_archive(path, own / "out", LIMITS)
        except DataError as error:
            demand(why in str(error), f"{path.name}: {error}")
        else:
            raise AssertionError(f"{path.name} was unpacked")
        demand(not list(own.iterdir()), f"{path.name} left something behind")

    row = run_trials("hostile archives", len(chosen), seed, folder, trial, progress=progress)
    shutil.rmtree(folder / "archives")
    return row


def load_pickles(
    count: int,
    seed: int,
    folder: Path,
    progress: Progress = silent,
    readers: Sequence[PickleReader] = READERS,
) -> Row:
    """`count` hostile pickles, each given to every reader: its code never runs."""
    canary = folder / "canary"
    chosen = _some(hostile_pickles(canary), count, seed)
    cases = [(reader, hostile) for reader in readers for hostile in chosen]
    prepared: set[str] = set()

    def trial(number: int, _rng: random.Random, _own: Path) -> str:
        reader, hostile = cases[number]
        place = folder / "readers" / re.sub(r"\W", "_", reader.name)
        if reader.name not in prepared:
            place.mkdir(parents=True)
            reader.prepare(place)
            prepared.add(reader.name)
        outcome = "read without it"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(place, hostile.content)
        except GenvlmError:
            outcome = "refused"
        except Exception as error:
            outcome = f"refused by {type(error).__name__}"
        ran = canary.exists()
        shutil.rmtree(canary, ignore_errors=True)
        demand(not ran, f"{reader.name} ran {hostile.name}")
        return outcome

    for hostile in chosen:
        load_naively(hostile)
        demand(canary.exists(), f"{hostile.name} is not hostile: the row would prove nothing")
        shutil.rmtree(canary)
    row = run_trials("hostile pickles", len(cases), seed, folder, trial, progress=progress)
    shutil.rmtree(folder / "readers")
    return row


def _some(things: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` of them, of which nobody chose any."""
    if count >= len(things):
        return list(things)
    numbers = random.Random(seed).sample(range(len(things)), count)
    return [things[number] for number in sorted(numbers)]

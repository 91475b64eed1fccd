"""Damaged pictures and videos by the thousand: each gives frames or a sentence, twice the same.

Every file is a pure function of (seed, number), so that one that is found again can be made again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from genvlm.data.child import Child, ChildFailed, ChildLimits
from genvlm.data.raw import Media
from genvlm.data.videos import VideoDecoder
from genvlm.errors import VideoError
from genvlm.testing.mutations import mutate_image, mutate_video

Outcome = tuple[str, str]
"""What became of a file (picture, video, refused, fault, failed), and what was said."""


@dataclass
class FuzzReport:
    """Outcomes of `num` files; those that must not be are named by their numbers."""

    num: int
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    """By outcome, and by the kind of file: "PNG picture"."""
    faults: dict[int, str] = field(default_factory=dict)
    """Files that raised what no reader may raise, crashed or hung."""
    unstable: list[int] = field(default_factory=list)
    """Files whose second outcome was another one."""

    @property
    def passed(self) -> bool:
        """Whether every outcome was a picture or a refusal, twice the same."""
        return not self.faults and not self.unstable

    def to_json(self) -> dict[str, object]:
        """As `scripts/faults` writes it."""
        return {
            "num": self.num,
            "seed": self.seed,
            "counts": dict(sorted(self.counts.items())),
            "faults": {str(number): said for number, said in self.faults.items()},
            "unstable": self.unstable,
            "passed": self.passed,
        }


def fuzz_images(num: int, seed: int, progress: Callable[[int], None] | None = None) -> FuzzReport:
    """Decode `num` damaged pictures of all formats, each twice, in a child that may die of it."""
    limits = ChildLimits(seconds=10, memory=2 << 30)
    child = Child("genvlm.testing.image_child", limits)

    def outcome(content: bytes, name: str) -> Outcome:
        try:
            answer, _ = child.ask({"name": name}, content)
        except ChildFailed as error:
            return "failed", str(error)
        if "error" in answer:
            return "failed", answer["error"]
        return answer["outcome"], answer["said"]

    try:
        return _fuzz(mutate_image, num, seed, outcome, progress)
    finally:
        child.close()


def fuzz_videos(num: int, seed: int, progress: Callable[[int], None] | None = None) -> FuzzReport:
    """Probe `num` damaged videos, decode them and make clips of them, each twice.

    A decoder that dies is a refusal.
    """
    limits = ChildLimits(seconds=10, memory=1 << 29)
    with VideoDecoder(limits=limits) as decoder:

        def outcome(content: bytes, name: str) -> Outcome:
            video = Media(kind="video", name=name, content=content)
            try:
                info = decoder.probe(video)
                frames: np.ndarray = np.asarray(decoder.decode(video, max_frames=8, max_side=32))
                clips = [_clips(decoder, video, start) for start in (0, 0.05)]
            except VideoError as error:
                return "refused", str(error)
            except Exception as error:
                return "fault", repr(error)
            digest = hashlib.sha256(frames.tobytes()).hexdigest()
            return "video", f"{info} {frames.shape} {digest} {clips}"

        return _fuzz(mutate_video, num, seed, outcome, progress)


def _clips(decoder: VideoDecoder, video: Media, start: float) -> str:
    """The digest of a few clips of one frame, and why there are no more."""
    digest, end = hashlib.sha256(), ""
    clips = decoder.clips(
        video, num_frames=1, side=16, frames_per_second=7, start=start, max_clips=4
    )
    try:
        for clip in clips:
            digest.update(np.asarray(clip).tobytes())
    except VideoError as error:
        end = str(error)
    return f"{digest.hexdigest()} {end}"


def _fuzz(
    mutate: Callable[[np.random.Generator], tuple[str, bytes]],
    num: int,
    seed: int,
    outcome: Callable[[bytes, str], Outcome],
    progress: Callable[[int], None] | None,
) -> FuzzReport:
    report = FuzzReport(num, seed)
    for number in range(num):
        kind, content = mutate(np.random.default_rng((seed, number)))
        first, second = outcome(content, f"{number}.{kind}"), outcome(content, f"{number}.{kind}")
        report.counts[first[0]] += 1
        report.counts[f"{kind} {first[0]}"] += 1
        if first[0] in ("fault", "failed"):
            report.faults[number] = f"{kind}: {first[1]}"
        if first != second:
            report.unstable.append(number)
        if progress is not None:
            progress(number + 1)
    return report

"""Rollouts of held-out clips of balls: does their number stay, and where do they go?

Beside the model: the last context frame repeated, every ball moved on in a straight line, and the
truth through the tokenizer, which is the most that can be reached.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from genvlm.config.schema import to_plain
from genvlm.data.images import RGBImage
from genvlm.data.physics.counting import ball_centres, ball_pixels, count_balls
from genvlm.data.physics.scenes import PhysicsClip, sample_counting_clips
from genvlm.data.physics.simulation import SIZE
from genvlm.data.videos import VideoFrames
from genvlm.errors import ConfigError
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.generation.rollout import roll_out
from genvlm.generation.sampling import SamplingSettings
from genvlm.models.pretrained import PretrainedModel, find_video_tokenizer
from genvlm.studies.rollout import check_lengths

MODEL, COPY, LINE, CEILING = "model", "copy", "line", "tokenizer"
WAYS = {
    MODEL: "drawn by the model",
    COPY: "the last context frame, repeated",
    LINE: "each ball moved on by its mean step over the last 4 context frames",
    CEILING: "the truth, encoded and decoded: the most that can be reached",
}
MIN_AREA = 20
"""Pixels of a patch that counts as a ball: a fifth of one, as none of these balls is ever hidden.
Smaller ones stand where a decoder mixes the colours of two balls. Chosen on reconstructions of
clips of seed 0, none of which is continued here."""
CLIPS_SEED = 1
"""Of the clips that are continued: others than those on which `MIN_AREA` was chosen."""
_STEPS = 3
"""Steps between frames whose mean is the speed of a ball: one alone is rounded to whole pixels."""


@dataclass(frozen=True, eq=False)
class Fate:
    """What becomes of the balls when all clips are continued in one way."""

    right: Bool[np.ndarray, "clips frames"]
    """Whether a frame shows as many balls as the clip has."""
    distances: Float64[np.ndarray, "clips frames"]
    """Mean distance in pixels of the balls that are seen from where they truly are; NaN where none
    is seen."""
    missing: Float64[np.ndarray, "clips frames"]
    """Share of the clip's balls of whose colour there is none."""
    num_balls: Int64[np.ndarray, " clips"]

    def to_json(self) -> dict[str, Any]:
        """Shares with Wilson intervals, and curves over the frames."""
        whole = self.right.all(1)
        interval = wilson_interval(int(whole.sum()), len(whole))
        assert not isinstance(interval, Undefined)
        seen = np.isfinite(self.distances)
        sums = np.where(seen, self.distances, 0).sum(0)
        by_frame = np.divide(sums, seen.sum(0), out=np.full(len(sums), np.nan), where=seen.any(0))
        return {
            "kept": int(whole.sum()),
            "kept_percent": 100 * float(whole.mean()),
            "interval": [100 * interval.low, 100 * interval.high],
            "by_number": {
                str(num): {
                    "clips": int((self.num_balls == num).sum()),
                    "kept_percent": 100 * float(whole[self.num_balls == num].mean()),
                }
                for num in np.unique(self.num_balls).tolist()
            },
            "kept_until": (100 * np.logical_and.accumulate(self.right, 1).mean(0)).tolist(),
            "right_in_frame": (100 * self.right.mean(0)).tolist(),
            "distance": [None if np.isnan(x) else float(x) for x in by_frame],
            "missing_percent": (100 * self.missing.mean(0)).tolist(),
        }


@dataclass(frozen=True, eq=False)
class PhysicsRollout:
    """Clips continued in every way, and how they fare."""

    clips: list[PhysicsClip]
    truth: list[VideoFrames]
    continued: dict[str, list[VideoFrames]]
    """By way, context included."""
    fates: dict[str, Fate]
    num_context: int
    about: dict[str, Any]
    nll_per_code: list[float]
    """Nats per drawn code of each latent frame, the mean over clips."""

    def to_json(self) -> dict[str, Any]:
        """`rollout.json`."""
        return {
            "schema": 1,
            **self.about,
            "nll_per_code": self.nll_per_code,
            "ways": {
                name: {"is": WAYS[name], **fate.to_json()} for name, fate in self.fates.items()
            },
        }


def roll_physics(
    pretrained: PretrainedModel,
    settings: SamplingSettings,
    *,
    num: int,
    num_context: int,
    num_frames: int,
    seed: int,
    captions: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PhysicsRollout:
    """Continue `num` held-out clips, each once; they are the same whatever the seed.

    Args:
        seed: of what is drawn.
        captions: put each clip's caption in front of it; a caption tells how many balls there are.

    Raises:
        ConfigError: a model without video or of other frames than 64x64, or lengths that do not
            fit.
        DataError: pymunk is not installed.
        TokenError, GenerationError: as `roll_out`.
    """
    tokenizer = find_video_tokenizer(pretrained)
    check_lengths(tokenizer.config, num_context, num_frames)
    _check_size(tokenizer.config.image.resolution)
    clips = list(sample_counting_clips(num, CLIPS_SEED, num_context + num_frames))
    truth = [clip.render() for clip in clips]
    codes = tokenizer.encode(truth)
    at = tokenizer.config.num_latents(num_context)
    rollouts = roll_out(
        pretrained,
        [c[:at] for c in codes],
        settings,
        num_latents=num_frames // tokenizer.frames_per_latent,
        seed=seed,
        texts=[clip.caption if captions else None for clip in clips],
        progress=progress,
    )
    continued = {
        MODEL: tokenizer.decode([r.codes for r in rollouts]),
        COPY: [_copied(t, num_context) for t in truth],
        LINE: [moved_on(t[:num_context], num_frames) for t in truth],
        CEILING: tokenizer.decode(codes),
    }
    lengths = {"clips": num, "num_context": num_context, "num_frames": num_frames}
    seeds = {"clips_seed": CLIPS_SEED, "seed": seed}
    return PhysicsRollout(
        clips=clips,
        truth=truth,
        continued=continued,
        fates={name: judge(clips, truth, way, num_context) for name, way in continued.items()},
        num_context=num_context,
        about={
            "model": pretrained.fingerprint, **lengths, **seeds, "captions": captions,
            "min_area": MIN_AREA, "sampling": to_plain(settings),
        },
        nll_per_code=(-np.mean([r.log_probs.mean((1, 2)) for r in rollouts], 0)).tolist(),
    )  # fmt: skip


def _check_size(resolution: int) -> None:
    if resolution != SIZE:
        raise ConfigError(
            f"balls are counted in frames of {SIZE}x{SIZE} pixels, and this model draws "
            f"{resolution}: use a model of the shipped video tokenizer"
        )


def judge(
    clips: Sequence[PhysicsClip],
    truth: Sequence[VideoFrames],
    continued: Sequence[VideoFrames],
    num_context: int,
) -> Fate:
    """Count the balls behind the context, and measure how far they are from the true ones.

    Both are read from frames, by colour, so that the truth itself has no distance.
    """
    right, distances, missing = [], [], []
    for clip, true, frames in zip(clips, truth, continued, strict=True):
        colours = [ball.colour for ball in clip.scene.balls]
        pairs = zip(true[num_context:], frames[num_context:], strict=True)
        measured = [_frame_fate(ball_centres(a), ball_centres(b), colours) for a, b in pairs]
        counts = [count_balls(frame, min_area=MIN_AREA) for frame in frames[num_context:]]
        right.append([count == len(colours) for count in counts])
        distances.append([distance for distance, _ in measured])
        missing.append([share for _, share in measured])
    num_balls = np.array([len(clip.scene.balls) for clip in clips])
    return Fate(np.array(right), np.array(distances), np.array(missing), num_balls)


def _frame_fate(
    true: Mapping[str, tuple[float, float]],
    found: Mapping[str, tuple[float, float]],
    colours: Sequence[str],
) -> tuple[float, float]:
    """Mean distance of the balls that are found, and the share of those that are not."""
    seen = [c for c in colours if c in found and c in true]
    apart = [float(np.hypot(*np.subtract(true[c], found[c]))) for c in seen]
    lost = sum(c not in found for c in colours) / len(colours)
    return (float(np.mean(apart)) if apart else np.nan), lost


def _copied(frames: VideoFrames, num_context: int) -> VideoFrames:
    num_behind = len(frames) - num_context
    last = frames[num_context - 1 : num_context]
    return np.concatenate([frames[:num_context], np.repeat(last, num_behind, 0)])


def moved_on(context: VideoFrames, num_frames: int) -> VideoFrames:
    """The context, and its last frame with every ball's pixels moved by its mean step.

    What a ball uncovers is filled with the nearest pixels above or below it.
    A ball that has only just come, or a context of one frame, moves not at all.
    """
    last = context[-1]
    steps = min(_STEPS, len(context) - 1)
    before, now = ball_centres(context[-1 - steps]), ball_centres(last)
    balls = ball_pixels(last)
    empty = _without(last, sum(balls.values(), np.zeros(last.shape[:2], bool)))
    drawn = [*context]
    for number in range(1, num_frames + 1):
        frame = empty.copy()
        for colour, mask in balls.items():
            speed = np.subtract(now[colour], before.get(colour, now[colour])) / max(steps, 1)
            rows, columns = np.nonzero(mask)
            moved = np.round(number * speed).astype(int)
            to = np.stack([rows, columns], 1) + moved
            inside = ((to >= 0) & (to < last.shape[:2])).all(1)
            frame[tuple(to[inside].T)] = last[rows[inside], columns[inside]]
        drawn.append(frame)
    return np.stack(drawn)


def _without(frame: RGBImage, covered: Bool[np.ndarray, "height width"]) -> RGBImage:
    """The frame with covered pixels taken from the nearest uncovered one of their column."""
    filled = frame.copy()
    for column in np.flatnonzero(covered.any(0)):
        free = np.flatnonzero(~covered[:, column])
        for row in np.flatnonzero(covered[:, column]):
            if len(free):
                filled[row, column] = frame[free[np.abs(free - row).argmin()], column]
    return filled

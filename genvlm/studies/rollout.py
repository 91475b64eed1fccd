"""A clip continued from its first frames, and how far each continuation has drifted."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.data.first_frames import FirstFrames, read_first_frames
from genvlm.data.videos import VideoFrames
from genvlm.errors import ConfigError, VideoError
from genvlm.evaluation.drift import frame_psnr, latent_shifts
from genvlm.generation.rollout import Rollout, roll_out
from genvlm.generation.sampling import SamplingSettings
from genvlm.models.pretrained import PretrainedModel, find_video_tokenizer
from genvlm.scoring.video import score_video

EXPLAINED = {
    "nll_per_code": "nats of a code of each drawn latent frame under the model (temperature 1, no "
    "guidance), the mean over its codes; of the truth likewise, given the true frames before",
    "js_to_context": "Jensen-Shannon divergence in nats (0 to ln 2 = 0.693) of the histogram of "
    "codes of each drawn latent frame from that of all latent frames of the context",
    "js_to_truth": "the same from the true latent frame of that time",
    "psnr": "dB of each drawn frame against the true one; equal frames have 58.9",
    "copy_psnr": "of the last context frame, repeated",
    "reconstruction_psnr": "of the truth, encoded and decoded: the most that can be reached",
}


@dataclass(frozen=True, eq=False)
class Continuation:
    """A clip, and what a model made of its first frames."""

    clip: VideoFrames
    """As the tokenizer takes it: the context, and what is known behind it."""
    num_context: int
    """Frames that were given."""
    rollouts: list[Rollout]
    samples: list[VideoFrames]
    """Decoded: context and drawn frames of each rollout."""
    reconstruction: VideoFrames
    """Of as much of the clip as whole latent frames hold."""
    drift: dict[str, Any]
    """As `EXPLAINED` says: of each sample, and of the truth, None where the clip ends with the
    context."""


def check_lengths(config: VideoVQConfig, num_context: int, num_frames: int) -> None:
    """Raises ConfigError: lengths that are no whole latent frames; names the nearest that are."""
    try:
        config.num_latents(num_context)
    except ConfigError as error:
        raise ConfigError(f"the context: {error}") from None
    r = config.frames_per_latent
    if num_frames < 1 or num_frames % r:
        fits = max(r, num_frames // r * r)
        nearest = f"{fits} or {fits + r}" if num_frames > r else f"{r}"
        raise ConfigError(
            f"{num_frames} frames cannot be drawn behind a context: this model draws {r} at a "
            f"time; ask for {nearest}"
        )


def read_clip(
    path: Path,
    side: int,
    *,
    num_context: int,
    num_frames: int,
    frames_per_second: float | None = None,
    start: float = 0,
) -> FirstFrames:
    """The context and, where the video goes on, up to `num_frames` frames of truth behind it.

    Raises:
        VideoError: as `read_first_frames`, or fewer frames than the context.
    """
    found = read_first_frames(
        path, side, max_frames=num_context + num_frames,
        frames_per_second=frames_per_second, start=start,
    )  # fmt: skip
    if len(found.frames) < num_context:
        rate = f" at {frames_per_second:g} per second" if frames_per_second else ""
        where = f" from second {start:g} on" if start else ""
        raise VideoError(
            f"{path} has {len(found.frames)} frames{rate}{where}, fewer than the {num_context} of "
            "the context: choose a longer video or a smaller context"
        )
    return found


def continue_clip(
    pretrained: PretrainedModel,
    clip: VideoFrames,
    settings: SamplingSettings,
    *,
    num_context: int,
    num_frames: int,
    num: int,
    seed: int,
    text: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Continuation:
    """Draw `num` continuations of `num_frames` frames behind the first `num_context` of a clip.

    What the clip shows behind the context is the truth to compare with; the model does not see it.

    Raises:
        ConfigError: a model without video, or lengths that do not fit.
        TokenError, GenerationError: as `roll_out`.
    """
    tokenizer = find_video_tokenizer(pretrained)
    check_lengths(tokenizer.config, num_context, num_frames)
    clip = tokenizer.fit(clip[: num_context + num_frames])
    r = tokenizer.frames_per_latent
    # The codes of the context do not depend on what follows: the tokenizer is causal.
    codes = pretrained.encode_video(clip[: 1 + (len(clip) - 1) // r * r])
    num_latents = tokenizer.config.num_latents(num_context)
    rollouts = roll_out(
        pretrained,
        [codes[:num_latents]] * num,
        settings,
        num_latents=num_frames // r,
        seed=seed,
        texts=[text] * num,
        progress=progress,
    )
    reconstruction = tokenizer.decode([codes])[0]
    samples = [tokenizer.decode([rollout.codes])[0] for rollout in rollouts]
    found = Continuation(clip, num_context, rollouts, samples, reconstruction, {})
    return replace(found, drift=_drift(pretrained, found, codes, text))


def _drift(
    pretrained: PretrainedModel, found: Continuation, codes: np.ndarray, text: str | None
) -> dict[str, Any]:
    n, known = found.num_context, len(found.clip)
    at = found.rollouts[0].num_context
    context, behind = codes[:at], codes[at:]
    truth = found.clip[n:]
    samples = []
    for rollout, frames in zip(found.rollouts, found.samples, strict=True):
        drawn = rollout.codes[at:]
        shifts = [
            latent_shifts(one[None], true)[0] for one, true in zip(drawn, behind, strict=False)
        ]
        samples.append(
            {
                "nll_per_code": (-rollout.log_probs.mean((1, 2))).tolist(),
                "js_to_context": latent_shifts(drawn, context),
                "js_to_truth": shifts,
                "psnr": frame_psnr(frames[n:known], truth),
            }
        )
    if known == n:
        return {"samples": samples, "truth": None}
    nll: list[float] = []
    if len(behind):
        score = score_video(pretrained, [codes], context=at, texts=[text])[0]
        nll = (-score.log_probs[at:].astype(np.float64).mean((1, 2))).tolist()
    rebuilt = found.reconstruction[n:]
    return {
        "samples": samples,
        "truth": {
            "num_frames": known - n,
            "nll_per_code": nll,
            "js_to_context": latent_shifts(behind, context),
            "copy_psnr": frame_psnr(np.repeat(found.clip[n - 1 : n], known - n, 0), truth),
            "reconstruction_psnr": frame_psnr(rebuilt, truth[: len(rebuilt)]),
        },
    }

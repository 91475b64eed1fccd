"""How surprising videos are, by latent frame and region: records, and a page that plays them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genvlm.data.first_frames import first_frames
from genvlm.data.raw import Media
from genvlm.data.videos import VideoDecoder, VideoFrames
from genvlm.errors import ModelError, VideoError
from genvlm.evaluation.blocks import Block, Callout, Cell, Headline, Section, Table
from genvlm.evaluation.films import Film, Films
from genvlm.evaluation.report import render_report
from genvlm.models.pretrained import PretrainedModel, find_video_tokenizer
from genvlm.scoring.video import VideoScore, score_video
from genvlm.scoring.video_scorers import given_latents

MAX_FRAMES = 257
"""Of a video; longer ones are cut, and the record says so."""
MAX_SHOWN = 30
"""Videos on a page; a table names all."""


@dataclass(frozen=True, kw_only=True)
class SurprisedBy:
    """One video with its surprise."""

    video: str
    frames: VideoFrames
    """Those that were scored, as the tokenizer takes them."""
    num_decoded: int
    """Frames that were read; what is more than the scored ones did not fit r."""
    more: bool
    """The video has more than these, which were not read."""
    context: int
    """Frames that were given."""
    score: VideoScore

    @property
    def unseen(self) -> "SurprisedBy":
        """The same without its pixels: those of thousands of videos would fill the memory."""
        return replace(self, frames=self.frames[:, :0, :0].copy())

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last frame of each latent frame."""
        num, latents = len(self.frames), len(self.score.log_probs)
        size = (num - 1) // max(1, latents - 1)
        return [(0, 0), *((first, first + size - 1) for first in range(1, num, size))]

    @property
    def curve(self) -> list[float | None]:
        """Surprise in nats of each latent frame, None where given."""
        return [None if np.isnan(v) else -float(v) for v in self.score.frames]

    @property
    def heat(self) -> np.ndarray:
        """Surprise in nats of the code at each place, (frames, rows, columns); NaN where given."""
        sizes = [last - first + 1 for first, last in self.spans]
        return np.repeat(-self.score.log_probs.astype(np.float64), sizes, axis=0)

    @property
    def cut(self) -> str:
        """What of the video was not scored, or nothing."""
        left = self.num_decoded - len(self.frames)
        frames = "1 frame at its end does" if left == 1 else f"{left} frames at its end do"
        said = [f"{frames} not fit the tokenizer"] if left else []
        said += [f"only its first {self.num_decoded} frames were read"] if self.more else []
        return " and ".join(said)

    def to_json(self, pretrained: PretrainedModel) -> dict[str, Any]:
        """A line of `surprise.jsonl`."""
        regions = [
            None if np.isnan(latent).any() else np.round(-latent.astype(np.float64), 4).tolist()
            for latent in self.score.log_probs
        ]
        return {
            "video": self.video,
            "num_frames": len(self.frames),
            "context": self.context,
            "left_out": self.cut,
            "nll": -self.score.total,
            "num_codes": int(np.isfinite(self.score.log_probs).sum()),
            "latent_frames": [
                {"frames": list(span), "nll": value, "regions": region}
                for span, value, region in zip(self.spans, self.curve, regions, strict=True)
            ],
            "unit": "nats",
            "normalization": self.score.normalization,
            "model": pretrained.fingerprint,
        }


def measure_surprise(
    pretrained: PretrainedModel,
    video: str,
    frames: VideoFrames,
    *,
    context: int,
    text: str | None = None,
    more: bool = False,
) -> SurprisedBy:
    """Surprise behind the first `context` frames; the longest beginning is scored that fits r.

    Raises:
        VideoError: no latent frame is left behind the context.
        ConfigError: a context that does not fit r, or a model without video tokenizer.
        TokenError: a text that leaves no room for frames.
        ModelError: the model gives NaN.
    """
    tokenizer = find_video_tokenizer(pretrained)
    given, r = given_latents(pretrained, context), tokenizer.frames_per_latent
    if len(frames) < context + r:
        raise VideoError(
            f"{video} has {len(frames)} frames, and a context of {context} needs {context + r} or "
            "more: take a longer video or give fewer frames"
        )
    fitted = tokenizer.fit(frames[: len(frames) - (len(frames) - 1) % r])
    codes = tokenizer.encode([fitted])
    (score,) = score_video(pretrained, codes, context=given, texts=[text])
    if not np.isfinite(score.total):
        raise ModelError(
            f"{video}: the log-probabilities of this model are not finite: take other weights"
        )
    return SurprisedBy(
        video=video,
        frames=fitted,
        num_decoded=len(frames),
        more=more,
        context=context,
        score=score,
    )


def measure_files(
    pretrained: PretrainedModel,
    paths: Sequence[Media],
    *,
    context: int,
    text: str | None = None,
) -> Iterable[SurprisedBy | tuple[str, str]]:
    """Of each video its surprise, or its name with why there is none."""
    resolution = find_video_tokenizer(pretrained).config.image.resolution
    given_latents(pretrained, context)
    with VideoDecoder() as decoder:
        for media in paths:
            try:
                frames = first_frames(decoder, media, resolution, max_frames=MAX_FRAMES + 1).frames
                yield measure_surprise(
                    pretrained,
                    media.name,
                    frames[:MAX_FRAMES],
                    context=context,
                    text=text,
                    more=len(frames) > MAX_FRAMES,
                )
            except VideoError as error:
                yield media.name, str(error)


def surprise_page(
    measured: Sequence[SurprisedBy], failed: Sequence[tuple[str, str]], model: str
) -> str:
    """One HTML page: every video plays, with its curve and its heat map."""
    rows: list[list[Cell]] = [
        [m.video, len(m.frames), m.context, f"{-m.score.total:.1f}", _per_code(m), _worst(m)]
        for m in measured
    ]
    table = Table(
        ["video", "frames", "given", "nats", "nats a code", "most surprising frames"],
        rows,
        "Surprise of the codes behind the given frames",
    )
    notes: list[Block] = [Callout(f"{m.video}: {m.cut}.", "note") for m in measured if m.cut]
    notes += [Callout(f"Left out: {why}", "warning") for _, why in failed]
    films = [
        Films(
            [Film(m.frames, "", m.curve, m.heat)],
            f"{m.video}: {-m.score.total:.1f} nats, the first {m.context} frames given",
            m.spans,
            "surprise in nats a latent frame",
            scale=max(1, round(256 / m.frames.shape[2])),
        )
        for m in measured[:MAX_SHOWN]
    ]
    intro = (
        "Surprise is minus the log-probability of codes of the video tokenizer, given the text if "
        "any, the first frames, and all codes before. The curve has a level for each latent frame, "
        "which holds several frames; red marks the regions whose codes were not expected."
    )
    shown = "" if len(measured) <= MAX_SHOWN else f"The first {MAX_SHOWN} of {len(measured)}."
    headlines = [Headline("videos", str(len(measured))), Headline("left out", str(len(failed)))]
    sections = [Section("Videos", [table, *notes], intro), Section("Playing", films, shown)]
    return render_report("What surprises the model", model, headlines, sections)


def _per_code(measured: SurprisedBy) -> str:
    values = measured.score.log_probs
    return f"{-np.nanmean(values.astype(np.float64)):.2f}"


def _worst(measured: SurprisedBy) -> str:
    first, last = measured.spans[int(np.nanargmin(measured.score.frames))]
    return f"{first}–{last}"

"""What the clips of sources are: durations, frame rates, sizes, which are damaged and why."""

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from genvlm.data.curation.percentiles import percentiles
from genvlm.data.images import RGBImage
from genvlm.data.raw import Media
from genvlm.data.videos import VideoDecoder, VideoInfo
from genvlm.errors import VideoError


@dataclass
class Clips:
    """What was found so far; a context, since clips are decoded by a process of its own."""

    infos: list[VideoInfo] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Why each of the others cannot be decoded."""
    _decoder: VideoDecoder | None = None

    def __enter__(self) -> "Clips":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def add(self, clip: Media, max_side: int) -> RGBImage | None:
        """Count one clip; its first frame, no side of it above `max_side`, or None: it is damaged.

        Raises:
            VideoError: PyAV is not installed.
        """
        if self._decoder is None:
            self._decoder = VideoDecoder()
        try:
            info = self._decoder.probe(clip)
            frames: np.ndarray = self._decoder.decode(clip, max_frames=1, max_side=max_side)
        except VideoError as error:
            self.damaged.append(str(error))
            return None
        self.infos.append(info)
        return frames[0]

    def to_json(self) -> dict[str, Any]:
        """Everything but frames; what containers do not say is left out of the percentiles."""
        seconds = [info.seconds for info in self.infos if info.seconds > 0]
        rates = [info.frames_per_second for info in self.infos if info.frames_per_second > 0]
        formats = Counter(f"{info.container}: {info.codec}" for info in self.infos)
        return {
            "clip_seconds_in_all": round(sum(seconds), 2),
            "clips_of_unknown_duration": len(self.infos) - len(seconds),
            "clip_seconds": percentiles(seconds),
            "clip_frames_per_second": percentiles(rates),
            "clip_width": percentiles([info.width for info in self.infos]),
            "clip_height": percentiles([info.height for info in self.infos]),
            "clip_formats": dict(formats.most_common()),
        }

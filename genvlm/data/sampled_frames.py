"""Frames of a video that stand at even distances, for models that take a few pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from genvlm.data.frame_folders import frame_paths
from genvlm.data.images import RGBImage
from genvlm.data.raw import Media
from genvlm.data.video_containers import VideoFault
from genvlm.data.videos import VideoDecoder
from genvlm.errors import VideoError

MAX_FRAMES = 900
"""Of a video, that are decoded to sample from."""
_MAX_SIDE = 512


def sample_evenly(num_frames: int, num: int) -> list[int]:
    """Numbers of `num` of so many frames, the first and the last among them.

    Raises:
        VideoError: there are fewer.
    """
    if num_frames < num:
        raise VideoError(f"{num_frames} frames are too few to sample {num} from: leave it out")
    return [round(place) for place in np.linspace(0, num_frames - 1, num)]


def sample_frame_paths(folder: Path, num: int) -> list[Path]:
    """`num` pictures of a folder of frames, which are in the order that `frame_paths` says.

    Raises:
        VideoError: there are fewer or none, one is a link out of the folder, or it is not there.
    """
    try:
        paths = frame_paths(folder)
    except VideoFault as fault:
        raise VideoError(f"{folder} {fault}") from None
    return [paths[k] for k in _sample_evenly(folder, len(paths), num)]


def _sample_evenly(path: Path, num_frames: int, num: int) -> list[int]:
    try:
        return sample_evenly(num_frames, num)
    except VideoError as error:
        raise VideoError(f"{path}: {error}") from None


class SampledFrames(Sequence[RGBImage]):
    """`num` frames of a video file, decoded in a process that may die; none is kept."""

    def __init__(self, path: Path, num: int) -> None:
        self._path, self._num = path, num

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[RGBImage]:
        """Raises VideoError: missing, no video, damaged, too short, or too long to sample from."""
        return iter(self._read())

    @overload
    def __getitem__(self, place: int) -> RGBImage: ...
    @overload
    def __getitem__(self, place: slice) -> list[RGBImage]: ...
    def __getitem__(self, place: int | slice) -> RGBImage | list[RGBImage]:
        """As above; every call decodes the file anew."""
        return self._read()[place]

    def _read(self) -> list[RGBImage]:
        video = Media(kind="video", name=str(self._path), path=self._path)
        with VideoDecoder() as decoder:
            frames: np.ndarray = decoder.decode(
                video, max_frames=MAX_FRAMES + 1, max_side=_MAX_SIDE
            )
        if len(frames) > MAX_FRAMES:
            raise VideoError(
                f"{self._path} has more than {MAX_FRAMES} frames, of which {self._num} would be "
                "sampled: cut it first"
            )
        return [frames[k] for k in _sample_evenly(self._path, len(frames), self._num)]

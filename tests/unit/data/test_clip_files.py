"""Clips as files to look at: what is written is read again by Pillow and by PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from genvlm.data.clip_files import (
    DRAWN,
    GIVEN,
    enlarge,
    gif_bytes,
    mark_given,
    write_gif,
    write_mp4,
)
from genvlm.errors import StorageError, VideoError


def bouncing(num_frames: int = 5, height: int = 16, width: int = 16) -> np.ndarray:
    """A red square on white that moves, and a frame counter of grey."""
    frames = np.full((num_frames, height, width, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        frame[4:8, number : number + 4] = (220, 20, 30)
        frame[0, 0] = 40 * number
    return frames


def read_gif(path: Path) -> tuple[np.ndarray, int, int]:
    """Frames, pause in ms, and how often it plays (0: for ever)."""
    with Image.open(path) as image:
        frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)]
        return np.stack(frames), image.info["duration"], image.info["loop"]


def read_mp4(path: Path) -> tuple[np.ndarray, Fraction, str]:
    with av.open(path) as video:
        stream = video.streams.video[0]
        frames = [f.to_ndarray(format="rgb24") for f in video.decode(stream)]
        assert stream.average_rate is not None
        return np.stack(frames), stream.average_rate, stream.codec_context.name


def test_a_gif_of_few_colours_is_exact_and_plays_for_ever_at_its_rate(tmp_path: Path) -> None:
    frames = bouncing()
    write_gif(frames, tmp_path / "a.gif", frames_per_second=5)
    read, pause, loop = read_gif(tmp_path / "a.gif")
    assert np.array_equal(read, frames.repeat(16, 1).repeat(16, 2))
    assert (pause, loop) == (200, 0)


def test_frames_that_show_the_same_are_all_frames_of_the_gif(tmp_path: Path) -> None:
    frames = bouncing(num_frames=2)[[0, 0, 0, 1, 1, 0, 0]]
    (tmp_path / "a.gif").write_bytes(gif_bytes(frames))
    assert np.array_equal(read_gif(tmp_path / "a.gif")[0], frames)


def test_frames_that_stand_still_in_many_colours_are_all_frames_of_the_gif(
    tmp_path: Path,
) -> None:
    """40 scenes of one colour; and 40 whose first pixels use up what the palette has left."""
    frames = np.zeros((80, 4, 4, 3), np.uint8)
    frames += (np.arange(80) // 2 * 6).astype(np.uint8)[:, None, None, None]
    noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), dtype=np.uint8)
    noise[1::2] = noise[::2]
    for clip in (frames, noise):
        (tmp_path / "a.gif").write_bytes(gif_bytes(clip))
        assert len(read_gif(tmp_path / "a.gif")[0]) == 80


@pytest.mark.parametrize(("rate", "pause"), [(1e-6, 655_350), (0.01, 100_000), (1e6, 20)])
def test_a_gif_of_any_rate_can_be_written(rate: float, pause: int, tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(gif_bytes(bouncing(), frames_per_second=rate))
    assert read_gif(tmp_path / "a.gif")[1] == pause


def test_a_gif_of_many_colours_stays_near(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 24).astype(np.uint8)
    frames = np.stack(
        [np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 30 * n), -1) for n in range(4)]
    ).astype(np.uint8)
    (tmp_path / "a.gif").write_bytes(gif_bytes(frames))
    error = np.abs(read_gif(tmp_path / "a.gif")[0].astype(int) - frames)
    assert error.mean() < 6


def test_an_mp4_is_h264_of_even_size_with_every_frame(tmp_path: Path) -> None:
    frames = bouncing(num_frames=7, height=17, width=15)
    write_mp4(frames, tmp_path / "a.mp4", frames_per_second=12.5)
    read, rate, codec = read_mp4(tmp_path / "a.mp4")
    assert (codec, rate, read.shape) == ("h264", Fraction(25, 2), (7, 256, 226, 3))
    assert np.abs(read[:, :255, :225].astype(int) - enlarge(frames)).mean() < 4


def test_given_frames_have_another_border_than_drawn_ones() -> None:
    frames = bouncing(num_frames=4)
    marked = mark_given(frames, 3)
    assert np.array_equal(marked[:, 2:-2, 2:-2], frames)
    assert [tuple(frame[0, 7]) for frame in marked] == [GIVEN, GIVEN, GIVEN, DRAWN]
    assert [tuple(frame[9, -1]) for frame in marked] == [GIVEN, GIVEN, GIVEN, DRAWN]


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_what_is_no_clip_is_named(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    for wrong in (bouncing()[0], bouncing()[:0], bouncing().astype(np.float32)):
        with pytest.raises(VideoError, match=r"expected a clip, uint8 of shape \(frames"):
            write(wrong, tmp_path / "a")
    with pytest.raises(StorageError):
        write(bouncing(), tmp_path / "gone" / "a")


def test_without_pyav_mp4_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genvlm.data.clip_files.can_write_mp4", lambda: False)
    with pytest.raises(VideoError, match=r"pip install 'genvlm\[video\]', or write GIF"):
        write_mp4(bouncing(), tmp_path / "a.mp4")

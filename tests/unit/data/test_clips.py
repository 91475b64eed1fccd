"""Clips of videos: consecutive, even in time, square, of one shot, and one at a time."""

import itertools
import os
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from genvlm.config.data import VideosSource
from genvlm.data import video_child
from genvlm.data.clipper import Clipper
from genvlm.data.clips import read_clips
from genvlm.data.first_frames import read_first_frames
from genvlm.data.images import save_image
from genvlm.data.raw import Media
from genvlm.data.skipping import SkipBudget
from genvlm.data.sources import hash_files, read_source
from genvlm.data.video_child import VideoAnswers
from genvlm.data.videos import VideoDecoder
from genvlm.errors import DataError, VideoError
from genvlm.testing.files import write_files
from genvlm.testing.videos import (
    empty_video_bytes,
    numbers_of,
    sound_bytes,
    timed_video_bytes,
    turned,
    video_bytes,
)
from genvlm.tokenization.image import fit_square

pytest.importorskip("av")


KINDS = {
    "mp4": {},
    "webm": {},
    "gif": {},
    "mkv": {"codec": "libx264", "options": "open-gop=1:keyint=12:min-keyint=12:bframes=3"},
    "avi": {"codec": "mpeg4"},
    "mov": {"codec": "mpeg2video"},
}
UNEVEN = tuple(np.cumsum([0, *np.random.default_rng(3).choice([20, 40, 100, 230], 50)]).tolist())


@pytest.fixture(scope="module")
def decoder() -> Iterator[VideoDecoder]:
    with VideoDecoder() as decoder:
        yield decoder


def _media(content: bytes, name: str = "clip.mp4") -> Media:
    return Media(kind="video", name=name, content=content)


@pytest.mark.parametrize("suffix", KINDS)
def test_clips_follow_each_other_without_a_gap_and_what_is_left_is_dropped(
    decoder: VideoDecoder, suffix: str
) -> None:
    video = _media(timed_video_bytes(suffix, **KINDS[suffix]))
    clips = [np.asarray(clip) for clip in decoder.clips(video, num_frames=17, side=16)]
    assert {(clip.shape, clip.dtype.name) for clip in clips} == {((17, 16, 16, 3), "uint8")}
    assert [numbers_of(clip) for clip in clips] == [
        list(range(start, start + 17)) for start in (0, 17, 34)
    ]
    two = decoder.clips(video, num_frames=17, side=16, max_clips=2)
    assert [numbers_of(clip) for clip in two] == [numbers_of(clip) for clip in clips[:2]]


def test_frames_as_they_come_are_all_taken_whatever_their_times() -> None:
    clipper = Clipper(3)
    clips = [
        clip
        for time in (0, -2, -1, 0, 5, 4)
        for clip in clipper.add(Fraction(time), np.full((4, 4, 3), 10 + time, np.uint8))
    ]
    assert [clip[:, 0, 0, 0].tolist() for clip in clips] == [[10, 8, 9], [10, 15, 14]]


def test_a_clip_is_the_middle_of_the_frames(decoder: VideoDecoder) -> None:
    video = _media(video_bytes(num_frames=4))
    whole = np.asarray(decoder.decode(video, max_frames=4, max_side=64))
    clips = np.concatenate(list(decoder.clips(video, num_frames=1, side=48)))
    assert np.array_equal(clips, whole[:, :, 8:56])
    small = np.concatenate(list(decoder.clips(video, num_frames=1, side=24)))
    squares = [Image.fromarray(frame).crop((8, 0, 56, 48)) for frame in whole]
    halved = np.stack([np.asarray(s.resize((24, 24), Image.Resampling.BILINEAR)) for s in squares])
    assert np.abs(small.astype(int) - halved).mean() < 1


@pytest.mark.parametrize("rate", [3.0, 7.5, 25.0, 61.0])
@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_a_video_of_a_variable_rate_is_resampled_to_the_frames_nearest_in_time(
    decoder: VideoDecoder, suffix: str, rate: float
) -> None:
    video = _media(timed_video_bytes(suffix, UNEVEN))
    times = np.array(UNEVEN) / 1000
    grid = np.arange(int(times[-1] * rate + 1e-9) + 1) / rate
    nearest = np.abs(times - grid[:, None] + 1e-9).argmin(1)
    clips = decoder.clips(video, num_frames=4, side=16, frames_per_second=rate)
    shown = [number for clip in clips for number in numbers_of(np.asarray(clip))]
    assert shown == nearest[: len(grid) // 4 * 4].tolist()


@pytest.mark.parametrize("suffix", KINDS)
def test_a_clip_from_the_middle_is_that_of_reading_from_the_start(
    decoder: VideoDecoder, suffix: str
) -> None:
    video = _media(timed_video_bytes(suffix, **KINDS[suffix]))
    asked = {"num_frames": 3, "side": 16}
    in_order = [np.asarray(c) for c in decoder.clips(video, **asked, frames_per_second=12.5)]
    assert len(in_order) >= 9
    for number, clip in reversed(list(enumerate(in_order))):
        (found,) = decoder.clips(
            video, **asked, frames_per_second=12.5, start=number * 3 / 12.5, max_clips=1
        )
        assert np.array_equal(found, clip)
    (found,) = decoder.clips(video, **asked, start=1.001, max_clips=1)
    assert numbers_of(np.asarray(found)) == [26, 27, 28]


def test_nothing_between_the_first_frame_and_the_key_frame_in_front_is_decoded(
    decoder: VideoDecoder,
) -> None:
    content = bytearray(timed_video_bytes("avi", codec="mpeg4"))
    chunks = [n for n in range(len(content)) if content[n : n + 4] == b"00dc"]
    for chunk in chunks[3:11]:  # frames of the first second, behind the first key frame
        length = int.from_bytes(content[chunk + 4 : chunk + 8], "little")
        content[chunk + 8 : chunk + 8 + length] = bytes(length)
    video = _media(bytes(content))
    with pytest.raises(VideoError, match="is damaged"):
        list(decoder.clips(video, num_frames=17, side=16))
    (clip,) = decoder.clips(video, num_frames=17, side=16, start=1.0, max_clips=1)
    assert numbers_of(np.asarray(clip)) == list(range(25, 42))


@pytest.mark.parametrize("rate", [None, 25.0])
def test_no_clip_spans_a_cut(decoder: VideoDecoder, rate: float | None) -> None:
    video = _media(timed_video_bytes(cuts=(13, 20)))
    clips = decoder.clips(video, num_frames=6, side=16, frames_per_second=rate)
    levels = [np.asarray(clip).mean((1, 2, 3)) for clip in clips]
    assert [len(clip) for clip in levels] == [6] * (2 + 1 + 6)
    assert max(float(np.abs(np.diff(clip)).max()) for clip in levels) < 8


def test_frames_are_turned_as_the_container_says(decoder: VideoDecoder) -> None:
    upright = np.asarray(decoder.decode(_media(video_bytes()), max_frames=2, max_side=64))
    video = _media(turned(video_bytes()))
    lying = np.asarray(decoder.decode(video, max_frames=2, max_side=64))
    assert np.array_equal(lying, np.rot90(upright, -1, axes=(1, 2)))


@pytest.mark.parametrize(
    ("content", "asked", "fault"),
    [
        (video_bytes(num_frames=7), {}, "has 7 frames, 17 are needed"),
        (timed_video_bytes(), {"frames_per_second": 5.0}, "has 12 frames at 5 per second, 17 are"),
        (timed_video_bytes(), {"start": 2.0}, "has 10 frames from second 2 on, 17 are needed"),
        (timed_video_bytes(), {"start": 9.0}, "has 0 frames from second 9 on, 17 are needed"),
        (
            timed_video_bytes(cuts=(12, 24, 40, 50)), {},
            "has no 17 frames without a cut, but 16",
        ),
        (sound_bytes(), {}, "has no stream of pictures but of sound"),
        (empty_video_bytes("mp4"), {}, "has no frame that can be decoded"),
        (empty_video_bytes("webm"), {}, r"is damaged \(End of file\)"),
    ],
)  # fmt: skip
def test_a_video_without_a_clip_is_named(
    decoder: VideoDecoder, content: bytes, asked: dict[str, float], fault: str
) -> None:
    with pytest.raises(VideoError, match=rf"^clip\.mp4 {fault}"):
        list(decoder.clips(_media(content), num_frames=17, side=16, **asked))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", KINDS)
def test_a_video_that_is_cut_short_is_refused_before_any_of_it_is_used(
    decoder: VideoDecoder, suffix: str
) -> None:
    content = timed_video_bytes(suffix, **KINDS[suffix])
    for end in (len(content) // 3, len(content) - 1):
        with pytest.raises(VideoError, match=r"clip\.mp4 is (cut short|damaged)"):
            next(decoder.clips(_media(content[:end]), num_frames=2, side=16))
    padded = _media(content + bytes(9))
    assert len(np.asarray(next(decoder.clips(padded, num_frames=2, side=16)))) == 2


def _peak(pid: int) -> int:
    """Most memory that a process had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path) -> None:
    videos = []
    for num_frames in (60, 1100):
        path, times = tmp_path / f"{num_frames}.mkv", tuple(range(0, 40 * num_frames, 40))
        path.write_bytes(timed_video_bytes("mkv", times, codec="mjpeg", width=32, height=32))
        videos.append(Media(kind="video", name=path.name, path=path))
    peaks, counts = [], []
    with VideoDecoder() as decoder:
        for video in (videos[0], *videos):
            clips = decoder.clips(video, num_frames=4, side=96, frames_per_second=50.0)
            tracemalloc.start()
            counts.append(sum(1 for _ in clips))
            here = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            (pid,) = decoder.pids
            peaks.append((here, _peak(pid)))
    clip = 4 * 96 * 96 * 3
    assert counts[2] > 15 * counts[1] > 0
    assert counts[2] * clip > 50_000_000  # what would be held
    assert peaks[2][0] < peaks[1][0] + 2 * clip
    assert peaks[2][1] < peaks[1][1] + 4_000_000


def test_iterations_at_the_same_time_and_questions_between_wait_for_nobody(
    decoder: VideoDecoder,
) -> None:
    video = _media(timed_video_bytes())
    first, second = (decoder.clips(video, num_frames=9, side=16) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)
        assert decoder.probe(video).width == 64
    for _ in range(3):  # left after the first clip
        assert next(decoder.clips(video, num_frames=9, side=16)).shape[0] == 9
    assert len(decoder.pids) == 3


def test_a_process_that_dies_between_two_clips_is_named_and_the_next_one_works() -> None:
    video = _media(timed_video_bytes())
    with VideoDecoder() as decoder:
        clips = decoder.clips(video, num_frames=9, side=16)
        next(clips)
        (pid,) = decoder.pids
        os.kill(pid, 9)
        with pytest.raises(VideoError, match=r"clip\.mp4 crashed its decoder"):
            next(clips)
        assert len(list(decoder.clips(video, num_frames=9, side=16))) == 6
        unfinished = decoder.clips(video, num_frames=9, side=16)
        next(unfinished)
    with pytest.raises(VideoError, match=r"clip\.mp4 was closed while its clips were read"):
        next(unfinished)
    decoder.close()


def test_frames_are_those_of_decord(decoder: VideoDecoder, tmp_path: Path) -> None:
    decord = pytest.importorskip("decord")
    for suffix in ("mp4", "webm"):
        path = tmp_path / f"clip.{suffix}"
        path.write_bytes(video_bytes(suffix, num_frames=12))
        theirs = decord.VideoReader(str(path), num_threads=1).get_batch(range(12)).asnumpy()
        video = Media(kind="video", name=path.name, path=path)
        ours = np.asarray(decoder.decode(video, max_frames=99, max_side=64))
        assert np.array_equal(ours, theirs)


def _write_videos(folder: Path, videos: dict[str, bytes]) -> VideosSource:
    files = {f"{Path(name).stem}.txt": f"caption of {name}" for name in videos}
    write_files(folder, {**videos, **files})
    return VideosSource(path=str(folder), num_frames=17, frames_per_second=25.0)


def test_a_source_gives_all_clips_of_its_videos_with_their_captions(tmp_path: Path) -> None:
    source = _write_videos(
        tmp_path, {"b.webm": timed_video_bytes("webm"), "a.mp4": timed_video_bytes(cuts=(20,))}
    )
    readings = list(read_source(source, "0-videos"))
    assert [(reading.sample.id, reading.sample.segments[0]) for reading in readings] == [
        ("0-videos-a.mp4#0", "caption of a.mp4"),
        ("0-videos-a.mp4#1", "caption of a.mp4"),
        ("0-videos-a.mp4#2", "caption of a.mp4"),
        ("0-videos-b.webm#0", "caption of b.webm"),
        ("0-videos-b.webm#1", "caption of b.webm"),
        ("0-videos-b.webm#2", "caption of b.webm"),
    ]
    frames = [np.asarray(reading.visuals()[0]) for reading in readings]
    assert {clip.shape for clip in frames} == {(17, 48, 48, 3)}  # of 64 x 48: not enlarged
    assert [numbers_of(clip)[0] for clip in frames[3:]] == [0, 17, 34]
    before = hash_files(source, 0)
    (tmp_path / "b.webm").write_bytes(timed_video_bytes("webm", cuts=(9,)))
    assert hash_files(source, 0) != before


def test_a_video_that_is_slow_to_decode_says_that_it_is_still_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its parent kills a process that says nothing for long, however many frames that are.
    seconds = itertools.count(step=1.5)
    monkeypatch.setattr(video_child, "monotonic", lambda: next(seconds))
    asked = {"num_frames": 17, "side": 16, "frames_per_second": None, "start": 0}
    answers = VideoAnswers()
    said = [answers({"do": "clips", "max_pixels": 4096, **asked}, timed_video_bytes())[0]]
    while not said[-1]["end"]:
        said.append(answers({"do": "next"}, b"")[0])
    assert sum("shape" in one for one in said) == 3
    assert len(said) > 20


def test_frames_without_times_are_shown_at_the_rate() -> None:
    stream = SimpleNamespace(average_rate=Fraction(10))
    frames = [SimpleNamespace(pts=pts, time_base=Fraction(1, 1000)) for pts in (None, 70, None)]
    packets = [SimpleNamespace(decode=lambda: frames)]
    video = SimpleNamespace(demux=lambda of: packets)
    times = [time for time, _ in video_child._frames_from(video, stream, Fraction(0))]
    assert times == [0, Fraction(1, 10), Fraction(2, 10)]


def test_the_first_frames_of_a_video_are_those_of_its_first_clip(tmp_path: Path) -> None:
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
    shades = np.arange(600) // 3
    for number in range(17):
        frame = np.broadcast_to(shades[:, None] + number, (320, 600, 3)).astype(np.uint8)
        save_image(frame, tmp_path / f"large/{number}.png")
        save_image(frame[:64, 200:264], tmp_path / f"small/{number}.png")
    large, small = read_clips(VideosSource(path=str(tmp_path)), SkipBudget())
    assert large.frames.shape == (17, 256, 256, 3)
    for clip, name in ((large, "large"), (small, "small")):
        found = read_first_frames(tmp_path / name, 64, max_frames=17)
        fitted = np.stack([fit_square(frame, 64) for frame in clip.frames])
        np.testing.assert_array_equal(found.frames, fitted)
    np.testing.assert_array_equal(small.frames[3, 0, :, 0], shades[200:264] + 3)


def test_videos_without_a_clip_are_counted_and_named_or_stop_the_source(tmp_path: Path) -> None:
    source = _write_videos(
        tmp_path,
        {
            "a.mp4": timed_video_bytes()[:-9], "b.mp4": video_bytes(num_frames=3),
            "c.mp4": sound_bytes(), "d.mp4": timed_video_bytes(), "e.mp4": b"text",
        },
    )  # fmt: skip
    with pytest.raises(DataError, match=r"a\.mp4 is cut short"):
        list(read_source(source, "0"))
    skips = SkipBudget(max_share=0.9)
    assert len(list(read_source(source, "0", skips))) == 3
    assert [skipped.id for skipped in skips.examples] == ["a.mp4", "b.mp4", "c.mp4", "e.mp4"]
    assert "b.mp4 has 6 frames at 25 per second, 17 are needed" in skips.examples[1].reason

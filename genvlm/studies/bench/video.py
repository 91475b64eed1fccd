"""`genvlm bench video`: reading and tokenising clips, beside decord and beside frame by frame."""

import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genvlm.config.assets import resolve_path
from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.data.raw import Media
from genvlm.data.videos import VideoDecoder, VideoFrames
from genvlm.errors import ConfigError, EvaluationError
from genvlm.studies.bench.memory import peak_memory, peak_of_process
from genvlm.studies.bench.report import Result, Row, memory_row, time_row
from genvlm.studies.bench.timing import Settings, ratio_of_medians, time_interleaved
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.tokenization.video import VideoTokenizer, inflate

_IMAGE = "tokenizers/image-emoji-64"
_FRAMES, _SIDE, _RATE = 17, 64, 25
_WIDTH, _HEIGHT = 320, 240
_SECONDS, _QUICK_SECONDS = (10, 100), (1, 2)
_FLAT = 0.9
_NUM_DRAWN, _BATCH = 48, 8
_KINDS: Mapping[str, tuple[str, str, dict[str, str]]] = {
    "H.264": ("mp4", "libx264", {}),
    "H.264 with open groups": (
        "mp4", "libx264", {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3"},
    ),
    "HEVC": ("mp4", "libx265", {"x265-params": "log-level=none"}),
    "MPEG-4": ("avi", "mpeg4", {"bf": "2"}),
    "MPEG-2": ("matroska", "mpeg2video", {"bf": "2"}),
    "VP9": ("webm", "libvpx-vp9", {}),
}  # fmt: skip
_METHOD = (
    f"An MP4 (H.264, {_WIDTH}x{_HEIGHT}, {_RATE} frames a second, a key frame every 2 s) of "
    "drifting textures. Ours: `VideoDecoder.clips`, in a process of its own that may be killed, "
    f"{_FRAMES} frames a clip, scaled and cut to {_SIDE}x{_SIDE}, looked through for cuts, sent "
    "here. decord: `VideoReader.get_batch` of the same frames in this process and nothing else, of "
    "its full size or scaled by decord; one thread each. Tokenising: the video tokenizer's "
    f"`encode` of {_BATCH} clips, of the shape that is shipped; frame by frame: `{_IMAGE}` on each "
    "frame. That both decode equal frames is checked before anything is timed. Memory: of this "
    "process beyond what was there (fresh processes) and of the decoding process in all, together. "
    "Random access: frames of small videos asked for in a drawn order, beside those "
    "decoded in order."
)


def run(settings: Settings) -> Result:
    """Times of one short video, memory of a short and a long one.

    Raises:
        ConfigError: PyAV or decord is not installed.
        EvaluationError: decord decodes other frames.
    """
    for module, name in (("av", "PyAV"), ("decord", "decord")):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"this benchmark needs {name}: pip install 'genvlm[bench]'")
    torch.set_num_threads(settings.threads)
    short, long = _QUICK_SECONDS if settings.quick else _SECONDS
    tokenizer = _tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        settings.say("making videos")
        paths = [Path(folder) / f"{seconds}.mp4" for seconds in (short, long)]
        for path, seconds in zip(paths, (short, long), strict=True):
            path.write_bytes(_video(seconds * _RATE))
        kinds = _write_kinds(Path(folder))
        settings.say("times")
        rows, facts = _times(paths[0], tokenizer, settings)
        settings.say("memory")
        rows.append(_memory(paths, (short, long), settings))
        settings.say("random access")
        facts |= _random_access(kinds, 12 if settings.quick else _NUM_DRAWN)
    return Result(
        bench="video",
        shape=f"{short} s and {long} s of {_WIDTH}x{_HEIGHT}, clips of {_FRAMES} frames",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts=facts,
    )


def _decord() -> Any:
    # Of the libvpx of both, the one that is loaded first serves both; PyAV cannot use decord's.
    import av  # noqa: F401
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _tokenizer() -> VideoTokenizer:
    """Of the shipped shape; its weights change no time."""
    image = load_image_tokenizer(resolve_path(_IMAGE))
    return inflate(image, VideoVQConfig(image=image.config))


def _video(num_frames: int) -> bytes:
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 226, (_HEIGHT // 16, _WIDTH // 16, 3)).astype(float)
    fine = rng.normal(0, 8, (_HEIGHT, _WIDTH, 3))
    picture = np.kron(coarse, np.ones((16, 16, 1))) + fine
    for axis in (0, 1):  # soft edges, as of a camera
        picture = np.mean([np.roll(picture, shift, axis) for shift in range(-3, 4)], axis=0)
    frames = (
        np.roll(picture, (number, 2 * number), (0, 1)).clip(0, 255).astype(np.uint8)
        for number in range(num_frames)
    )
    return _encoded(
        frames, (_WIDTH, _HEIGHT), "mp4", "libx264", {"preset": "veryfast"}, key=2 * _RATE
    )


def _encoded(
    frames: Iterable[np.ndarray],
    size: tuple[int, int],
    container: str,
    codec: str,
    options: dict[str, str],
    key: int,
) -> bytes:
    """Args: size: width and height; key: frames from one key frame to the next."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as video:
        stream: Any = video.add_stream(codec, rate=_RATE, options=options)
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", key
        stream.codec_context.time_base = Fraction(1, _RATE)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    return buffer.getvalue()


def _media(path: Path) -> Media:
    return Media(kind="video", name=path.name, path=path)


def _times(
    path: Path, tokenizer: VideoTokenizer, settings: Settings
) -> tuple[list[Row], dict[str, float | str]]:
    decord = _decord()
    video, image = _media(path), load_image_tokenizer(resolve_path(_IMAGE))
    with VideoDecoder() as decoder:
        asked = {"num_frames": _FRAMES, "side": _SIDE}
        num = sum(1 for _ in decoder.clips(video, **asked))

        def decode(**size: int) -> None:
            reader = decord.VideoReader(str(path), num_threads=1, **size)
            for clip in range(num):
                reader.get_batch(range(clip * _FRAMES, (clip + 1) * _FRAMES)).asnumpy()

        reader = decord.VideoReader(str(path), num_threads=1)
        theirs = reader.get_batch(range(_FRAMES)).asnumpy()
        if not np.array_equal(decoder.decode(video, max_frames=_FRAMES, max_side=_WIDTH), theirs):
            raise EvaluationError(
                "decord decodes other frames than PyAV: answers that are not equal are not timed"
            )
        tasks: dict[str, Callable[[], object]] = {
            "reading": lambda: list(decoder.clips(video, **asked)),
            "reading and tokenising": lambda: _encode(tokenizer, decoder.clips(video, **asked)),
            "frame by frame": lambda: [
                image.encode(clip) for clip in decoder.clips(video, **asked)
            ],
            "decord": decode,
            "decord, scaled": lambda: decode(width=_SIDE * _WIDTH // _HEIGHT, height=_SIDE),
        }
        seconds = time_interleaved(tasks, settings.num)
    compared = (
        ("reading", "decord", "decord's decoding", ""),
        ("reading", "decord, scaled", "decord's decoding and scaling", ""),
        ("reading and tokenising", "decord", "decord's decoding alone", "not the same work"),
        ("reading and tokenising", "frame by frame", "with the image tokenizer on each frame", ""),
    )
    rows = [
        time_row(
            f"{ours} {num} clips", against, float(np.median(seconds[ours])),
            float(np.median(seconds[theirs])), ratio_of_medians(seconds[theirs], seconds[ours]),
            settings, note=note,
        )
        for ours, theirs, against, note in compared
    ]  # fmt: skip
    return rows, {
        f"clips per second, {name}": num / float(np.median(found))
        for name, found in seconds.items()
    }


def _encode(tokenizer: VideoTokenizer, clips: Iterator[VideoFrames]) -> None:
    """A few clips at a time, and none is kept."""
    while batch := list(islice(clips, _BATCH)):
        tokenizer.encode(batch)


def _memory(paths: Sequence[Path], lengths: Sequence[int], settings: Settings) -> Row:
    """Both processes together. Frames that were kept would add 27 MiB, or half a GiB unscaled."""
    peaks: list[int | None] = []
    for path in paths:
        # Two fresh processes with torch take longer than all else of a quick run.
        ours = None if settings.quick else peak_memory(_reading, path, threads=settings.threads)
        with VideoDecoder() as decoder:
            for _ in decoder.clips(_media(path), num_frames=_FRAMES, side=_SIDE):
                pass
            decoding = peak_of_process(decoder.pids[0])
        peaks.append(None if ours is None or decoding is None else ours + decoding)
    short, long = (f"{seconds} s" for seconds in lengths)
    return memory_row(
        f"reading and tokenising {long}", short, peaks[1], peaks[0], settings, bar=_FLAT
    )


def _reading(path: Path) -> Callable[[], object]:
    tokenizer, decoder = _tokenizer(), VideoDecoder()

    def read(max_clips: int | None = None) -> None:
        clips = decoder.clips(_media(path), num_frames=_FRAMES, side=_SIDE, max_clips=max_clips)
        _encode(tokenizer, clips)
        if max_clips is None:
            decoder.close()

    read(2 * _BATCH)  # of which the short video has fewer: all of it
    return read


def _write_kinds(folder: Path) -> dict[str, Path]:
    """A small video of each kind, a key frame every 12 frames."""
    blocks = np.random.default_rng(1).integers(0, 256, (6, 8, 3))
    base = np.kron(blocks, np.ones((16, 16, 1))).astype(np.uint8)
    frames = [np.roll(base, (2 * n, 3 * n), (0, 1)) for n in range(_NUM_DRAWN)]
    paths = {}
    for kind, (container, codec, options) in _KINDS.items():
        paths[kind] = folder / f"{kind}.{container}"
        paths[kind].write_bytes(_encoded(frames, (128, 96), container, codec, options, key=12))
    return paths


def _random_access(kinds: Mapping[str, Path], num: int) -> dict[str, float | str]:
    """How many frames by random access are not those of decoding in order, decord's and ours."""
    order = np.random.default_rng(2).permutation(_NUM_DRAWN)[:num]
    decord = _decord()
    with VideoDecoder() as decoder:
        return {
            f"wrong frames of {num} by random access, {kind}": (
                f"decord {_wrong_of_decord(decord, path, order)}, "
                f"genvlm {_wrong_of_ours(decoder, path, order)}"
            )
            for kind, path in kinds.items()
        }


def _wrong_of_decord(decord: Any, path: Path, order: np.ndarray) -> int:
    in_order = decord.VideoReader(str(path), num_threads=1).get_batch(range(_NUM_DRAWN)).asnumpy()
    reader = decord.VideoReader(str(path), num_threads=1)
    return sum(not np.array_equal(reader[int(n)].asnumpy(), in_order[n]) for n in order)


def _wrong_of_ours(decoder: VideoDecoder, path: Path, order: np.ndarray) -> int:
    # One frame a clip, so that nothing is left out at cuts.
    asked = {"num_frames": 1, "side": 96}
    in_order = list(decoder.clips(_media(path), **asked))
    wrong = 0
    for number in order:
        (frame,) = decoder.clips(_media(path), **asked, start=number / _RATE, max_clips=1)
        wrong += not np.array_equal(frame, in_order[number])
    return wrong

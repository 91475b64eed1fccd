"""Videos of strangers: decoded elsewhere, within limits, and refused in a sentence."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from genvlm.data.child import Child, ChildFailed, ChildLimits
from genvlm.data.raw import Media
from genvlm.data.video_containers import FilePart
from genvlm.data.videos import VideoDecoder
from genvlm.errors import VideoError
from genvlm.testing.fuzz import fuzz_videos
from genvlm.testing.videos import AV1_VIDEO, CONTAINERS, frame_pixels, video_bytes

pytest.importorskip("av")


@pytest.fixture(scope="module")
def decoder() -> Iterator[VideoDecoder]:
    with VideoDecoder() as decoder:
        yield decoder


def _media(content: bytes, name: str = "clip.mp4") -> Media:
    return Media(kind="video", name=name, content=content)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_frames_are_those_that_were_encoded(decoder: VideoDecoder, suffix: str) -> None:
    video = _media(video_bytes(suffix))
    frames = np.asarray(decoder.decode(video, max_frames=99, max_side=64))
    expected = np.stack([frame_pixels(number) for number in range(6)])
    assert frames.shape == expected.shape
    assert np.abs(frames.astype(int) - expected).mean() < 3
    info = decoder.probe(video)
    assert (info.width, info.height, info.frames_per_second) == (64, 48, 10.0)
    assert info.seconds == pytest.approx(0.6, abs=0.05)


def test_a_codec_is_known_by_its_own_name_and_not_by_what_decodes_it(
    decoder: VideoDecoder,
) -> None:
    video = _media(AV1_VIDEO)
    assert decoder.probe(video).codec == "av1"
    frames = np.asarray(decoder.decode(video, max_frames=9, max_side=64))
    assert np.abs(frames.mean((1, 2, 3)) - [100, 120]).max() <= 1


def test_no_more_and_no_larger_frames_than_asked_for(decoder: VideoDecoder) -> None:
    frames = np.asarray(decoder.decode(_media(video_bytes()), max_frames=2, max_side=32))
    assert frames.shape == (2, 24, 32, 3)


def test_a_member_of_an_archive_is_decoded_from_its_place(
    decoder: VideoDecoder, tmp_path: Path
) -> None:
    content = video_bytes()
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 700 + content + b"y" * 300)
    video = Media(kind="video", name="a.tar, 1.mp4", path=path, offset=700, size=len(content))
    direct = decoder.decode(_media(content), max_frames=9, max_side=64)
    assert np.array_equal(decoder.decode(video, max_frames=9, max_side=64), direct)
    path.write_bytes(b"x" * 900)
    with pytest.raises(VideoError, match=r"a\.tar, 1\.mp4 is cut short"):
        decoder.decode(video, max_frames=9, max_side=64)
    path.unlink()
    with pytest.raises(VideoError, match=r"1\.mp4 cannot be read \(No such file"):
        decoder.decode(video, max_frames=9, max_side=64)


def _of_size(width: int, height: int) -> bytes:
    """A GIF that says that it has this size."""
    content = bytearray(video_bytes("gif"))
    content[6:10] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just a text, which decord opens" * 40, "is not a video that can be read"),
        (b"#EXTM3U\n#EXT-X-ENDLIST\n", "is not a video that can be read"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "is not a video that can be read"),
        (video_bytes()[:400], "is cut short"),
        (video_bytes("webm")[:60], "is cut short"),
        (_of_size(7680, 4320), "has frames of 7680x4320 pixels, more than the limit of 9.4"),
        (video_bytes("avi", codec="ffv1"), "has the codec ffv1: convert it"),
    ],
)
def test_what_is_no_video_or_too_large_a_one_is_named(
    decoder: VideoDecoder, content: bytes, fault: str
) -> None:
    for ask in (
        lambda video: decoder.probe(video),
        lambda video: decoder.decode(video, max_frames=4, max_side=64),
    ):
        with pytest.raises(VideoError, match=rf"^clip\.mp4 ({fault})"):
            ask(_media(content))


def test_threads_share_a_pool() -> None:
    videos = [_media(video_bytes("mp4", num)) for num in (1, 2, 3, 4, 5, 6)]

    def count(video: Media) -> int:
        return len(np.asarray(pool.decode(video, max_frames=9, max_side=16)))

    with VideoDecoder(num_children=2) as pool, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(count, videos)) == [1, 2, 3, 4, 5, 6]


def test_frames_that_need_more_memory_than_allowed_are_refused() -> None:
    # Its 6 frames of 2000 x 1500 have 54 MB.
    video = _media(_of_size(2000, 1500))
    with VideoDecoder(limits=ChildLimits(memory=50 << 20)) as decoder:
        with pytest.raises(VideoError, match="needs more than 50 MB"):
            decoder.decode(video, max_frames=200, max_side=2000)
        assert len(decoder.decode(_media(video_bytes()), max_frames=3, max_side=9)) == 3


def test_frames_are_held_once_while_they_are_decoded() -> None:
    # 900 frames of 512 x 512, as many as are sampled from, would else not fit the default limit.
    # These have 54 MB, and the decoder takes about as much: held twice they need over 150.
    video = _media(_of_size(2000, 1500))
    with VideoDecoder(limits=ChildLimits(memory=130 << 20)) as decoder:
        assert decoder.decode(video, max_frames=200, max_side=2000).nbytes == 6 * 9_000_000


def test_a_part_of_a_file_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(9))
    with FilePart(path, 2, 4) as part:
        inside = part._file
        assert part.read() == bytes(4)
    assert inside.closed


def test_nothing_is_imported_from_the_folder_in_which_a_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with VideoDecoder() as decoder:
        assert decoder.probe(_media(video_bytes())).width == 64


CHILD = """
import os, time
from genvlm.data.child import serve

def answer(request, content):
    match request["do"]:
        case "crash":
            os.abort()
        case "sleep":
            time.sleep(60)
        case "spin":
            while True:
                pass
        case "memory":
            return {"size": len(bytearray(1 << 30))}, b""
        case "print":
            print("a library that talks")
            os.write(1, b"and another")
        case "exit":
            os._exit(0)
        case "long":
            return {}, bytes(2_000_000)
    return {"pid": os.getpid()}, content[::-1]

if __name__ == "__main__":
    serve(answer)
"""


def _interrupted(*_: object) -> bytes:
    raise KeyboardInterrupt


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    (tmp_path / "some_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    limits = ChildLimits(seconds=1.2, memory=256 << 20, answer=1_000_000)
    child = Child("some_child", limits)
    yield child
    child.close()


def test_a_child_that_crashes_hangs_or_talks_too_much_is_killed_and_started_again(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, content = child.ask({"do": "print"}, b"abc")
    assert content == b"cba"
    pids = {answer["pid"]}
    for request, fault in (
        ("crash", r"crashed its decoder \(signal 6\)"),
        ("exit", "crashed its decoder"),
        ("sleep", r"took more than 1\.2 s"),
        ("spin", r"took more than (1\.2 s|0\.6 s of the processor)"),
        ("long", "an answer of 2,000,000 bytes"),
    ):
        with pytest.raises(ChildFailed, match=fault):
            child.ask({"do": request})
        pids.add(child.ask({"do": "work"})[0]["pid"])
    assert len(pids) == 6
    with monkeypatch.context() as patch:
        patch.setattr("genvlm.data.child._read_until", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            child.ask({"do": "work"}, b"interrupted")
    assert child.ask({"do": "work"}, b"abc")[1] == b"cba"
    assert child.ask({"do": "memory"})[0] == {"error": "needs more than 256 MB"}
    assert child.ask({"do": "work"})[0]["pid"] not in pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_every_damaged_video_gives_frames_or_a_sentence_twice_the_same() -> None:
    report = fuzz_videos(40, seed=11)
    assert report.passed, report.to_json()
    assert min(report.counts["video"], report.counts["refused"]) >= 5

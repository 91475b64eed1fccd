"""Folders of frames are videos: in natural order, bounded, and told from folders of videos."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genvlm.config.data import VideosSource
from genvlm.data.images import save_image
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media
from genvlm.data.sources import hash_files
from genvlm.data.videos import VideoDecoder
from genvlm.errors import DataError, VideoError
from genvlm.testing.files import picture_bytes, write_files
from genvlm.testing.videos import LEVEL, numbers_of

pytest.importorskip("av")


@pytest.fixture(scope="module")
def decoder() -> Iterator[VideoDecoder]:
    with VideoDecoder() as decoder:
        yield decoder


def _write_frames(folder: Path, names: list[str], width: int = 40, height: int = 30) -> Media:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        save_image(np.full((height, width, 3), LEVEL * number % 256, np.uint8), folder / name)
    return Media(kind="video", name=folder.name, path=folder)


def test_pictures_in_natural_order_are_frames(decoder: VideoDecoder, tmp_path: Path) -> None:
    names = [f"frame_{n}.png" for n in range(1, 13)]
    video = _write_frames(tmp_path / "scene", names)
    info = decoder.probe(video)
    assert (info.container, info.width, info.height, info.num_frames) == ("folder", 40, 30, 12)
    clips = [np.asarray(clip) for clip in decoder.clips(video, num_frames=5, side=20)]
    assert [numbers_of(clip) for clip in clips] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert clips[0].shape == (5, 20, 20, 3)
    assert len(list(decoder.clips(video, num_frames=5, side=20, max_clips=1))) == 1
    assert decoder.decode(video, max_frames=3, max_side=20).shape == (3, 15, 20, 3)


def test_scenes_as_intphys_ships_them_are_read(decoder: VideoDecoder, tmp_path: Path) -> None:
    names = [f"scene_{n:03}.png" for n in range(1, 101)]
    video = _write_frames(tmp_path / "O1/01/1/scene", names, 28, 28)
    (clip,) = decoder.clips(video, num_frames=60, side=28)  # a white frame and a black one: a cut
    assert numbers_of(np.asarray(clip)) == list(range(60))


def test_a_subfolder_of_pictures_alone_is_one_video(tmp_path: Path) -> None:
    _write_frames(tmp_path / "x/ball.v2", ["1.png", "2.png"])
    write_files(
        tmp_path,
        {
            "x/ball.v2/.hidden": b"", "x/ball.v2.txt": "a ball falls",
            "y/clip.mp4": b"x", "y/clip.txt": "a cube", "y/poster.png": picture_bytes(1),
            "z/still.gif": b"x", "z/still.txt": "a GIF",
            "pictures/1.png": picture_bytes(1), "pictures/notes.md": "not a video",
        },
    )  # fmt: skip
    documents = list(open_source(VideosSource(path=str(tmp_path))))
    assert [(document.id, document.segments[0]) for document in documents] == [
        ("x/ball.v2", "a ball falls"), ("y/clip.mp4", "a cube"), ("z/still.gif", "a GIF"),
    ]  # fmt: skip
    folder = documents[0].segments[1]
    assert isinstance(folder, Media)
    assert (folder.kind, folder.path) == ("video", tmp_path / "x/ball.v2")


def test_a_folder_that_is_no_video_is_named(decoder: VideoDecoder, tmp_path: Path) -> None:
    video = _write_frames(tmp_path / "scene", ["1.png", "2.png", "3.png"])

    def refused(fault: str, **asked: float) -> None:
        with pytest.raises(VideoError, match=rf"^scene {fault}"):
            list(decoder.clips(video, num_frames=3, side=16, **asked))  # type: ignore[arg-type]

    times = "is a folder of frames, which have no times: leave"
    refused(f"{times} frames_per_second out", frames_per_second=5.0)
    refused(f"{times} start out", start=2.0)
    Image.new("RGB", (31, 30)).save(tmp_path / "scene/2.png")
    refused(r"has frames of 40x30 pixels, but 2\.png has 31x30")
    (tmp_path / "scene/2.png").write_bytes(picture_bytes(1)[:50])
    refused(r"has a damaged frame: .*2\.png is damaged")
    (tmp_path / "scene/2.png").unlink()
    refused("has 2 frames, 3 are needed")
    save_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "secret.png")
    (tmp_path / "scene/2.png").symlink_to(tmp_path / "secret.png")
    refused(r"has a frame that is a link out of it: copy 2\.png there")
    for path in (tmp_path / "scene").iterdir():
        path.unlink()
    refused("is a folder without frames")


def test_frames_of_8k_are_refused(decoder: VideoDecoder, tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    Image.new("1", (7680, 4320)).save(tmp_path / "scene/1.png")
    video = Media(kind="video", name="scene", path=tmp_path / "scene")
    with pytest.raises(VideoError, match=r"scene has frames of 7680x4320 pixels, more than"):
        decoder.probe(video)


def test_a_folder_changes_with_its_frames_and_not_with_what_else_is_written_there(
    tmp_path: Path,
) -> None:
    _write_frames(tmp_path / "clips/scene", ["1.png", "2.png"])
    source = VideosSource(path=str(tmp_path / "clips"))
    state = hash_files(source, 0.0)
    write_files(tmp_path, {"clips/scene/.cache/x": b"x"})
    assert hash_files(source, 0.0) == state
    _write_frames(tmp_path / "clips/scene", ["3.png"])
    assert hash_files(source, 0.0) != state


def test_a_subfolder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_frames(tmp_path / "scene", ["1.png"])

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(DataError, match=r"scene cannot be read \(Permission denied\)"):
        list(open_source(VideosSource(path=str(tmp_path))))


def test_a_caption_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    _write_frames(tmp_path / "scene", ["1.png"])
    (tmp_path / "scene.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"scene\.txt"):
        list(open_source(VideosSource(path=str(tmp_path))))

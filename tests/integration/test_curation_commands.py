"""`genvlm data curate` and `genvlm data inspect`, as a user types them."""

import io
import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genvlm.cli.main import main
from genvlm.config.curation import CurationConfig
from genvlm.config.data import (
    CaptionsSource,
    FolderSource,
    VideosSource,
    WebDatasetSource,
)
from genvlm.config.schema import dump_config, parse_config
from genvlm.data.curation.inspection import guess_sources
from genvlm.data.layouts.open import open_source
from genvlm.data.skipping import SkipBudget
from genvlm.data.sources import read_source
from genvlm.models.pretrained import save_pretrained
from genvlm.testing.files import picture_bytes, write_files, write_tar
from genvlm.testing.noisy_captions import GOOD, write_noisy_captions
from genvlm.testing.tiny import tiny_pretrained
from genvlm.testing.videos import video_bytes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def _rows(page: str) -> list[list[str]]:
    """Words of the rows of all tables."""
    rows = re.findall("<tr.*?</tr>", page, re.DOTALL)
    return [re.sub("<[^>]*>", " ", row).split() for row in rows]


def test_the_example_keeps_its_pictures_and_its_page_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "curate", "configs/data/curate-own.yaml", "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 0
    ledger = json.loads(capsys.readouterr().out)
    assert (ledger["in"], ledger["kept"]) == (3, 3)
    page = (tmp_path / "out/ledger.html").read_text("utf-8")
    assert "penguin above lemon" in page
    assert ["all", "rules", "3", "0", "0.0", "3"] in _rows(page)
    assert "<script src" not in page
    assert (tmp_path / "out/kept.png").is_file()
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


def test_models_score_and_caption_and_the_page_shows_what_was_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_noisy_captions(tmp_path / "data")
    save_pretrained(tiny_pretrained(), tmp_path / "model", card="tiny")
    content = {
        "kind": "curation",
        "sources": [{"kind": "captions", "path": str(tmp_path / "data")}],
        "rules": [
            {"kind": "size"},
            {"kind": "near_duplicates"},
            {"kind": "score", "model": str(tmp_path / "model"), "keep": 0.5},
        ],
        "captions": {"model": str(tmp_path / "model"), "share": 1.0, "max_tokens": 6},
        "max_unreadable": 0.5,
    }
    path = tmp_path / "curation.yaml"
    path.write_text(dump_config(parse_config(CurationConfig, content, "test")), encoding="utf-8")
    assert main(["data", "curate", str(path), "--out", str(tmp_path / "out"), "--json"]) == 0
    ledger = json.loads(capsys.readouterr().out)
    score = ledger["rules"][-1]
    assert score["dropped"] == score["in"] - ledger["kept"] == pytest.approx(score["in"] / 2, abs=1)
    assert sum(ledger["captions"].values()) == ledger["kept"]
    shards = tuple(str(shard) for shard in (tmp_path / "out/shards").glob("*.tar"))
    for document in open_source(WebDatasetSource(paths=shards)):
        assert document.extra["original_text"]
        assert document.extra["caption_from"] in ("synthetic", "source")
    page = (tmp_path / "out/ledger.html").read_text("utf-8")
    assert "looks the same" in page
    assert "is damaged or cut short" in page


def test_training_reads_curated_shards_as_it_reads_their_sources(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["data", "curate", "configs/data/curate-own.yaml", "--out", str(out)]) == 0
    shards = WebDatasetSource(paths=(str(out / "shards/00000.tar"),))
    sources = (shards, CaptionsSource(path="examples/data"))
    curated, original = (list(read_source(s, "0", SkipBudget())) for s in sources)
    assert len(curated) == len(original) == 3
    for one, other in zip(curated, original, strict=True):
        assert one.sample.segments == other.sample.segments
        np.testing.assert_array_equal(one.visuals(), other.visuals())


def test_a_file_that_is_no_curation_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["data", "curate", "configs/debug/tiny.yaml", *out]) == 2
    assert "is no configuration of `kind: curation`" in capsys.readouterr().err
    assert main(["train", "configs/data/curate-own.yaml", *out]) == 2
    assert "genvlm data curate" in capsys.readouterr().err


def test_inspect_counts_damage_duplicates_scripts_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = write_noisy_captions(tmp_path / "data")
    page = tmp_path / "page.html"
    assert main(["data", "inspect", str(tmp_path / "data"), "--json", "--out", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["documents"] == len(expected)
    assert found["pictures"] == len(expected) - 2 == sum(found["formats"].values())
    assert found["damaged"]["pictures"] == 2
    assert (found["exact_duplicates"], found["near_duplicates"], found["blank"]) == (1, 1, 1)
    assert found["scripts"]["cyrillic"] == 1
    assert found["most_frequent_texts"]["clip art gallery"] == 3
    assert found["most_frequent_words"]["heart"] == 2
    assert found["width"]["p50"] == 64
    html = page.read_text("utf-8")
    assert GOOD[0] in html
    assert f"{found['bytes'] / 1e3:.1f} kB" in html
    sizes = {name: cells for name, *cells in _rows(html) if name in ("width", "characters")}
    assert all(cell.isdecimal() for cell in sizes["width"])
    assert all(cell.isdecimal() for cell in sizes["characters"])


def test_inspect_decodes_clips_and_counts_the_damaged_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = video_bytes()
    clips = {
        "cow.mp4": whole,
        "wide.webm": video_bytes("webm", width=128),
        "cut.mp4": whole[: len(whole) // 2],
        "text.mp4": b"no video at all",
    }
    captions = {Path(name).with_suffix(".txt").name: f"the clip {name}" for name in clips}
    folder = write_files(tmp_path / "clips", {**clips, **captions})
    page = tmp_path / "page.html"
    assert main(["data", "inspect", str(folder), "--json", "--out", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["videos"], found["pictures"], found["damaged"]["videos"]) == (2, 0, 2)
    assert found["clip_seconds"] == {"p0": 0.6, "p5": 0.6, "p50": 0.6, "p95": 0.6, "p100": 0.6}
    assert found["clip_frames_per_second"]["p50"] == 10
    assert (found["clip_width"]["p0"], found["clip_width"]["p100"]) == (64, 128)
    assert found["clip_formats"] == {"mov: h264": 1, "matroska: vp9": 1}
    assert found["bytes"] == sum(map(len, clips.values()))
    assert "text.mp4 is not a video that can be read" in " ".join(found["damaged"]["examples"])
    shown = page.read_text("utf-8")
    assert "the clip cow.mp4" in shown
    assert "the clip wide.webm" in shown
    assert main(["data", "inspect", str(folder)]) == 0
    assert "damaged videos" in capsys.readouterr().out


def test_inspect_agrees_with_what_a_source_of_videos_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gif = io.BytesIO()
    Image.new("RGB", (9, 9)).save(gif, "GIF")
    frames = {f"scene/{i}.png": picture_bytes(i) for i in range(3)}
    broken = {f"{i:02}.mp4": b"no video" for i in range(22)}
    files = {**frames, **broken, "scene.txt": b"a scene", "a.gif": gif.getvalue()}
    folder = write_files(tmp_path / "clips", {**files, "loose.png": picture_bytes(7)})
    source = VideosSource(path=str(folder))
    page = tmp_path / "page.html"
    assert main(["data", "inspect", str(folder), "--json", "--out", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["videos"] + found["damaged"]["videos"] == len(list(open_source(source)))
    assert (found["videos"], found["pictures"], found["documents"]) == (2, 1, 25)
    assert found["bytes"] == sum(
        p.stat().st_size for p in folder.rglob("*.*") if p.suffix != ".txt"
    )
    assert re.search(r"documents.*?kB.*?pictures", page.read_text("utf-8"), re.DOTALL)
    assert main(["data", "inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.count("is not a video") == 20
    assert "and 2 more" in out
    shutil.rmtree(folder)
    only = write_files(tmp_path / "scenes", {**frames, "scene.txt": b"a scene"})
    assert guess_sources(only) == [VideosSource(path=str(only))]


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar"])
def test_inspect_unpacks_an_archive_and_leaves_nothing_behind(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rows = "".join(f'{{"image": "{name}.png", "text": "a {name}"}}\n' for name in ("cow", "cut"))
    files = {"cow.png": picture_bytes(9), "cut.png": picture_bytes(9)[:40], "captions.jsonl": rows}
    write_files(tmp_path / "data/mine", dict(files))
    form = {"zip": "zip", "tar.gz": "gztar", "tar": "tar"}[suffix]
    archive = shutil.make_archive(str(tmp_path / "mine"), form, tmp_path / "data")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert main(["data", "inspect", archive, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["pictures"], found["damaged"]["pictures"]) == (2, 1, 1)
    assert found["damaged"]["examples"][0].startswith(f"mine.{suffix}/mine/cut.png ")
    assert list(temporary.iterdir()) == []


def test_inspect_reads_a_tar_of_webdataset_where_it_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = write_tar(tmp_path / "00000.tar", [("a.png", picture_bytes()), ("a.txt", "a cow")])
    monkeypatch.setattr("genvlm.data.archives.extract_archive", None)
    assert main(["data", "inspect", str(tar), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["most_frequent_texts"] == {"a cow": 1}


def test_inspect_refuses_archives_that_lead_out_or_hold_nothing_to_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zip"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../cow.png", picture_bytes())
    assert main(["data", "inspect", str(out)]) == 2
    assert "leads out of it" in capsys.readouterr().err
    assert not (tmp_path / "cow.png").exists()
    nothing = write_tar(tmp_path / "nothing.tar", [("a.txt", "a"), ("b.txt", "b")])
    assert main(["data", "inspect", str(nothing)]) == 2
    said = capsys.readouterr().err
    assert "nothing.tar holds neither captions.jsonl nor" in said
    assert tempfile.gettempdir() not in said


def test_inspect_takes_configurations_and_says_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "inspect", "configs/data/curate-own.yaml", "--limit", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 2
    assert main(["data", "inspect", "configs/demo/emoji.yaml"]) == 2
    assert "names no source of files" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["data", "inspect", str(tmp_path / "empty")]) == 2
    assert "holds neither captions.jsonl nor" in capsys.readouterr().err
    assert main(["data", "inspect", "README.md"]) == 2
    assert "README.md is no archive, Parquet file or YAML" in capsys.readouterr().err


def test_inspect_writes_over_its_own_page_and_over_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes, page = tmp_path / "notes.txt", tmp_path / "page"
    notes.write_text("mine")
    command = ["data", "inspect", "examples/data", "--limit", "1", "--out"]
    assert main([*command, str(notes)]) == 2
    assert "notes.txt exists and is no HTML page" in capsys.readouterr().err
    assert notes.read_text() == "mine"
    for _ in range(2):
        assert main([*command, str(page)]) == 0


def test_a_folder_is_read_by_what_lies_in_it(tmp_path: Path) -> None:
    picture = picture_bytes()
    captions = write_files(tmp_path / "a", {"captions.jsonl": "", "a.png": picture})
    beside = write_files(tmp_path / "b", {"a/a.png": picture, "a/a.txt": "text"})
    named = write_files(tmp_path / "c", {"cow.png": picture, "a.mp4": b"", "a.txt": "a clip"})
    tars = write_files(tmp_path / "d", {"1.tar": b"", "0.tar": b""})
    assert guess_sources(captions) == [CaptionsSource(path=str(captions))]
    assert guess_sources(beside) == [FolderSource(path=str(beside), captions="sidecar")]
    assert guess_sources(named) == [
        FolderSource(path=str(named), captions="file_name"),
        VideosSource(path=str(named)),
    ]
    paths = (str(tars / "0.tar"), str(tars / "1.tar"))
    assert guess_sources(tars) == [WebDatasetSource(paths=paths)]

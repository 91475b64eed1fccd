"""`scripts/fetch_pictures` on packages of the shape of Debian's."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genvlm.config.data import CaptionsSource
from genvlm.data.layouts.open import open_source
from genvlm.testing.files import build_package, noise_picture, picture_bytes

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fetch_pictures"
RDF = (
    '<svg xmlns:cc="c" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:RDF><cc:Work>{}</cc:Work>'
    "</rdf:RDF></svg>"
)
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def fetch(collection: str, folder: Path, *options: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What the script prints, and captions by id."""
    out = folder / "out"
    command = [sys.executable, str(SCRIPT), collection, "--out", str(out), "--debs", str(folder)]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    documents = list(open_source(CaptionsSource(path=str(out))))
    assert all(document.segments[1].read().startswith(b"\x89PNG") for document in documents)  # type: ignore[union-attr]
    return json.loads(done.stdout), {d.id: str(d.segments[0]) for d in documents}


def test_drawings_take_their_title_and_links_become_copies(tmp_path: Path) -> None:
    svg, png = "usr/share/openclipart/svg", "usr/share/openclipart/png"
    title = "<dc:title>Cow</dc:title><dc:description>{}</dc:description>"
    drawings: dict[str, bytes | str] = {
        f"{svg}/cow.svg": RDF.format(title.format("on a meadow")),
        f"{svg}/farm/calf.svg": RDF.format(title.format("cow.")),
        f"{svg}/bomb.svg": '<!DOCTYPE a [<!ENTITY b "c">]>' + RDF.format("&b;"),
        f"{svg}/unrendered.svg": "<svg/>",
    }
    pictures: dict[str, bytes | str] = {
        f"{png}/{name}.png": picture_bytes(n)
        for n, name in enumerate(("cow", "farm/calf", "bomb", "lost"))
    }
    build_package(tmp_path, "openclipart-svg", drawings, **{f"{svg}/farm/two.svg": "../cow.svg"})
    build_package(tmp_path, "openclipart-png", pictures, **{f"{png}/farm/two.png": "../cow.png"})
    printed, captions = fetch("openclipart", tmp_path)
    assert captions == {
        "bomb.png": "bomb",
        "cow.png": "Cow: on a meadow",
        "farm/calf.png": "Cow",
        "farm/two.png": "Cow: on a meadow",
        "lost.png": "lost",
    }
    assert (printed["pictures"], printed["untitled"]) == (5, 2)
    assert len(printed["refused_metadata"]) == 1
    assert not (tmp_path / "out/pictures/farm/two.png").is_symlink()


def test_stamps_take_a_caption_in_each_language(tmp_path: Path) -> None:
    below = "usr/share/tuxpaint/stamps"
    files: dict[str, bytes | str] = {
        f"{below}/cow.png": picture_bytes(1),
        f"{below}/cow.txt": "A cow.\nfr.utf8=Une vache.\nru.utf8=Корова.\nen_GB.utf8=x = y\n",
        f"{below}/alone.png": picture_bytes(2),
        f"{below}/drawn.svg": "<svg/>",
    }
    build_package(tmp_path, "tuxpaint-stamps-default", files)
    printed, captions = fetch("tuxpaint", tmp_path, "--languages", "en,fr,de,en_GB")
    assert captions == {
        "cow.png#en": "A cow.", "cow.png#fr": "Une vache.", "cow.png#en_GB": "x = y",
    }  # fmt: skip
    assert printed["pictures_without_any_caption"] == ["alone.png"]
    assert printed["drawings_left_out_because_svg_is_not_rendered"] == 1


def between_members(package: bytes) -> bytes:
    return package[: package.index(b"./usr/share/tuxpaint/stamps/2.png\0")]


@pytest.mark.parametrize(
    "damage", [between_members, lambda package: package[:-20_000], lambda package: b"no package"]
)
def test_a_damaged_package_is_named_in_one_sentence(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    below = "usr/share/tuxpaint/stamps"
    files: dict[str, bytes | str] = {
        f"{below}/{n}.png": noise_picture(n, "PNG", (64, 64)) for n in range(4)
    }
    build_package(tmp_path, "tuxpaint-stamps-default", files)
    package = tmp_path / "tuxpaint-stamps-default_1_all.deb"
    package.write_bytes(damage(package.read_bytes()))
    command = [sys.executable, str(SCRIPT), "tuxpaint", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--debs", str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()
    assert said[-1].startswith(f"fetch_pictures: {package} is damaged (")
    assert said[-1].endswith("): delete it and fetch it again")
    assert "Traceback" not in done.stderr

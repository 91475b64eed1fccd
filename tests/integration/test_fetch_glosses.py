"""`scripts/fetch_glosses` on a package of the shape of Debian's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genvlm.config.data import DocumentsSource
from genvlm.data.layouts.open import open_source
from genvlm.testing.files import build_package

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fetch_glosses"
NOUNS = """  1 Free with this notice.  
01621127 05 n 01 owl 0 000 | bird of prey; "an owl"  
01621635 05 n 01 owlet 0 001 @ 01621127 n 0000 | young owl  
"""
NAME = "usr/share/wordnet/data.noun"
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def fetch(deb: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--deb", str(deb), "--out", str(out)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_definitions_become_documents_beside_their_licence(tmp_path: Path) -> None:
    deb = build_package(tmp_path, "wordnet-base", {NAME: NOUNS})
    out = tmp_path / "out"
    done = fetch(deb, out)
    assert done.returncode == 0, done.stderr
    documents = [
        document
        for name in ("glosses.jsonl", "held_out.jsonl")
        if (out / name).read_text()
        for document in open_source(DocumentsSource(path=str(out / name)))
    ]
    assert {d.segments for d in documents} == {("owl: bird of prey",), ("owlet: young owl",)}
    assert (out / "LICENSE.txt").read_text() == "Free with this notice.\n"
    assert json.loads(done.stdout)["nouns"] == 2


def test_a_damaged_package_is_refused_in_one_sentence(tmp_path: Path) -> None:
    deb = build_package(tmp_path, "wordnet-base", {NAME: NOUNS})
    deb.write_bytes(deb.read_bytes()[:-4000])
    done = fetch(deb, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"fetch_glosses: {deb} is damaged (")
    assert done.stderr.endswith("): delete it and fetch it again\n")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_package_is_refused(tmp_path: Path) -> None:
    done = fetch(build_package(tmp_path, "other", {"usr/share/x": "x"}), tmp_path / "out")
    assert done.returncode == 1
    assert "holds no usr/share/wordnet/data.noun: is it wordnet-base?" in done.stderr

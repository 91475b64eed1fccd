"""Classes of pictures and their priors: every fault is named with its file and line."""

import json
from pathlib import Path

import pytest

from genvlm.data.readers import read_class_folders, read_labels, read_prior
from genvlm.errors import DataError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_tab_and_jsonl_say_the_same(tmp_path: Path) -> None:
    tab = write(tmp_path, "labels.tsv", "a.png\tred fox\r\n\nin/b.png\tcow \n")
    rows = [{"image": "a.png", "class": "red fox"}, {"image": "in/b.png", "class": "cow"}]
    lines = write(tmp_path, "labels.jsonl", "\n".join(map(json.dumps, rows)))
    assert read_labels(tab) == read_labels(lines)
    assert [(f.key, f.label) for f in read_labels(tab)] == [
        ("a.png", "red fox"), ("in/b.png", "cow"),
    ]  # fmt: skip
    assert read_labels(tab)[1].image == tmp_path / "in/b.png"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a.png cow", "line 1 must be image<TAB>class"),
        ("a.png\tcow\tred", "line 1 must be image<TAB>class"),
        ("a.png\tcow\n\n./a.png\tfox", "line 3: the picture './a.png' stands twice"),
        ("a.png\t ", "line 1: 'class' is empty"),
        ("../a.png\tcow", "line 1: the picture '../a.png' must be a path inside"),
    ],
)
def test_a_bad_line_of_labels_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_labels(write(tmp_path, "labels.tsv", text))


def test_a_folder_of_class_folders_names_its_classes(tmp_path: Path) -> None:
    for name in (
        "fox/2.PNG",
        "fox/1.jpg",
        "cow/a.png",
        "cow/notes.txt",
        "cow/.b.png",
        ".git/c.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = read_class_folders(tmp_path)
    assert [(f.key, f.label) for f in found] == [
        ("cow/a.png", "cow"), ("fox/1.jpg", "fox"), ("fox/2.PNG", "fox"),
    ]  # fmt: skip
    assert found[0].image == tmp_path / "cow" / "a.png"


def test_folders_without_classes_or_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder at"):
        read_class_folders(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no class folders"):
        read_class_folders(tmp_path)
    (tmp_path / "cow").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        read_class_folders(tmp_path)


def test_a_prior_comes_in_the_order_of_the_classes(tmp_path: Path) -> None:
    path = write(tmp_path, "prior.tsv", "cow\t3\nred fox\t0.5\n")
    assert read_prior(path, ["red fox", "cow"]) == [0.5, 3.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cow\t1", "no weight of 1 classes, such as 'fox'"),
        ("cow\t1\nfox\t2\nant\t1", "line 3: the class 'ant' is not in the list"),
        ("cow\t1\ncow\t2", "line 2: the class 'cow' stands twice"),
        ("cow\tmany", "line 1: the weight 'many' is no number"),
        ("cow\t0", "line 1: a weight must be positive"),
        ("cow\tnan", "line 1: a weight must be positive"),
        ("cow\tinf", "line 1: a weight must be positive"),
    ],
)
def test_a_bad_prior_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_prior(write(tmp_path, "prior.tsv", text), ["fox", "cow"])

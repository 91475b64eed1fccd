"""Rules of the repository as a whole: layers, data folders, YAML, paths, the README's file tree."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from genvlm.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
TEXT_SUFFIXES = re.compile(r"\.(cfg|html|ini|j2|jsonl?|lock|md|py|toml|txt|ya?ml)")
TEXT_FOLDERS = (
    ".ci",
    "configs",
    "docs",
    "eval",
    "examples",
    "genvlm",
    "scripts",
    "tests",
    "tokenizers",
)
# Written so that this file does not hold what it forbids.
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:" + "work|root" + r")/")


def text_files() -> Iterator[Path]:
    """Text files that belong to the project: not .venv, runs or caches."""
    yield from (p for p in ROOT.iterdir() if p.is_file() and TEXT_SUFFIXES.fullmatch(p.suffix))
    for folder in TEXT_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            is_script = not path.suffix and folder in ("scripts", ".ci")
            if path.is_file() and (is_script or TEXT_SUFFIXES.fullmatch(path.suffix)):
                yield path


def tree_paths(markdown: str) -> list[str]:
    """Paths named by the file tree, the fenced block that names `genvlm/` at the start of a line.

    One path a line, a folder ends with a slash, deeper is further right. The tree may be drawn
    with lines or by indentation; what follows the path is its description.
    """
    for block in re.findall(r"^```\w*\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL):
        if re.search(r"^(?:[├└]── )?genvlm/", block, flags=re.MULTILINE):
            return _paths_of(block)
    return []


def _paths_of(block: str) -> list[str]:
    drawn = "── " in block
    paths: list[str] = []
    open_folders: list[tuple[int, str]] = []
    for line in block.splitlines():
        bare = re.sub(r"[│├└─]", " ", line)
        if not bare.strip() or (drawn and bare[0] != " "):  # the root itself
            continue
        column, name = len(bare) - len(bare.lstrip()), bare.split()[0]
        while open_folders and open_folders[-1][0] >= column:
            open_folders.pop()
        paths.append("".join(folder for _, folder in open_folders) + name)
        if name.endswith("/"):
            open_folders.append((column, name))
    return paths


def test_layers_are_kept() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_data_folders_hold_no_python() -> None:
    # A package named tokenizers here would hide Hugging Face's.
    found = [p for folder in ("tokenizers", "eval") for p in (ROOT / folder).rglob("*.py*")]
    assert found == []


def test_every_yaml_file_parses() -> None:
    paths = [
        path
        for folder in ("configs", "eval", "tokenizers")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".yaml", ".yml")
    ]
    assert paths
    for path in paths:
        assert yaml.safe_load(path.read_text("utf-8")) is not None, f"{path} is empty"


def test_every_json_configuration_parses() -> None:
    for path in (ROOT / "configs").rglob("*.json"):
        assert json.loads(path.read_text("utf-8")), f"{path} is empty"


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_the_tree_reader_understands_drawn_and_indented_trees() -> None:
    expected = ["genvlm/", "genvlm/data/", "genvlm/data/emoji.py", "scripts/", "scripts/test"]
    indented = """```
genvlm/            the package
  data/            readers
    emoji.py       the pack
scripts/           commands
  test             all checks
```"""
    drawn = """```text
repository/
├── genvlm/          # the package
│   └── data/        # readers
│       └── emoji.py # the pack
└── scripts/
    └── test
```"""
    assert tree_paths(f"# Title\n{indented}\n") == expected
    assert tree_paths(f"```\nother\n```\n{drawn}\n") == expected


def test_every_path_in_the_file_tree_of_the_readme_exists() -> None:
    paths = tree_paths((ROOT / "README.md").read_text("utf-8"))
    assert len(paths) >= 5, "README.md has no file tree (a fenced block that names genvlm/)"
    assert [path for path in paths if not any(ROOT.glob(path))] == []


def test_every_command_of_the_readme_is_one() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.findall(r"(?:`|^)(genvlm [a-z]+ [^`\n#]+)", text, flags=re.MULTILINE)
    commands = [shlex.split(c) for c in found if "|" not in c]
    assert len(commands) >= 8
    names = set()
    for _, *arguments in commands:
        parsed, rest = build_parser().parse_known_args(arguments)
        assert not rest or getattr(parsed, "takes_overrides", False), arguments
        names.add(arguments[0])
    assert {"generate", "classify", "score", "eval", "train", "config", "report", "demo"} <= names

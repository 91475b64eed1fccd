"""Lists of files that are one dataset: braces expand, and each file has a name for its ids."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from genvlm.errors import DataError

_MAX_FILES = 1_000_000
_RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(-?\d{1,9}))?$")


def list_files(paths: Sequence[str]) -> list[tuple[str, Path]]:
    """Names and paths, sorted; a name is the path below the folder that all of them share.

    Raises:
        DataError: a file that is missing or listed twice, or braces that no shell expands.
    """
    files: set[Path] = set()
    for pattern in paths:
        for path in map(Path, expand_braces(pattern)):
            if path in files:
                raise DataError(f"{path} is listed twice: list it once")
            files.add(path)
    missing = sorted(path for path in files if not path.is_file())
    if missing:
        more = f", nor at {len(missing) - 1} other paths" if len(missing) > 1 else ""
        raise DataError(f"no file at {missing[0]}{more}: check the paths")
    shared = os.path.commonpath([path.absolute().parent for path in files])
    return sorted((path.absolute().relative_to(shared).as_posix(), path) for path in files)


def expand_braces(pattern: str) -> list[str]:
    """`{000..127}` with leading zeros and steps, `{a,b}`, nested, as bash does it.

    Raises:
        DataError: over a million files.
    """
    opening = pattern.find("{")
    closing = _closing(pattern, opening)
    if closing is None:
        return [pattern]
    inside = pattern[opening + 1 : closing]
    words = _words(inside)
    if words is None:
        words = [f"{{{word}}}" for word in expand_braces(inside)]
    tails = expand_braces(pattern[closing + 1 :])
    if len(words) * len(tails) > _MAX_FILES:
        raise DataError(f"{pattern!r} names more than {_MAX_FILES:,} files")
    return [f"{pattern[:opening]}{word}{tail}" for word in words for tail in tails]


def _closing(pattern: str, opening: int) -> int | None:
    """Where the braces end that begin at `opening`; None: nowhere."""
    depth = 0
    for place in range(max(opening, 0), len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if depth == 0 and opening >= 0:
            return place
    return None


def _words(inside: str) -> list[str] | None:
    """What a pair of braces stands for; None: for itself."""
    match = _RANGE.match(inside)
    if match is None:
        parts, depth = [""], 0
        for letter in inside:
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += letter
        return [word for part in parts for word in expand_braces(part)] if parts[1:] else None
    first, last = int(match[1]), int(match[2])
    padded = any(re.match(r"-?0\d", text) for text in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if padded else 0
    step = abs(int(match[3] or 1)) or 1
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    if len(numbers) > _MAX_FILES:
        raise DataError(f"{{{inside}}} names more than {_MAX_FILES:,} files")
    return [f"{number:0{width}d}" for number in numbers]

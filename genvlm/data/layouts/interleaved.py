"""Web pages with pictures, of which some were gone when they were downloaded."""

import warnings
from pathlib import Path
from typing import Any

from genvlm.data.raw import Media, RawDocument
from genvlm.errors import DataError, DataWarning

_EARLY = 1000
"""Pictures after which none at all is taken for a wrong folder."""


def interleaved(
    sample_id: str, segments: list[str | Media], extra: dict[str, Any], missing: list[str]
) -> RawDocument:
    """A document; `extra["missing_images"]` names those of its pictures that are not there."""
    return RawDocument(
        id=sample_id,
        segments=tuple(segments),
        kind="document",
        extra=extra | ({"missing_images": missing} if missing else {}),
    )


class DownloadedImages:
    """Which pictures of web pages are in a folder; the others are counted.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"no folder of the pictures of {path} at {folder}: check the path")
        self._path, self._folder = path, folder
        self._first = ""
        self._num_missing = self._num_asked = 0

    def has(self, picture: Path | None, name: str) -> bool:
        """Whether there is such a file. Raises DataError: none of a thousand was."""
        self._num_asked += 1
        if picture is not None and picture.is_file():
            return True
        self._num_missing += 1
        self._first = self._first or name
        if self._num_missing == self._num_asked == _EARLY:
            self._refuse()
        return False

    def warn(self) -> None:
        """At the end. Raises DataError: none of them is there."""
        if self._num_missing == 0:
            return
        if self._num_missing == self._num_asked:
            self._refuse()
        warnings.warn(
            f"{self._num_missing} of {self._num_asked} pictures of {self._path} are not in "
            f"{self._folder}, such as {self._first}: left out of their documents",
            DataWarning,
            stacklevel=2,
        )

    def _refuse(self) -> None:
        raise DataError(
            f"none of {self._num_asked} pictures of {self._path} is in {self._folder}, such as "
            f"{self._first}: is it their folder?"
        )

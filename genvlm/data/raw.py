"""Documents as a reader finds them: texts, and pictures and clips that are not decoded yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from genvlm.errors import DataError

_MAX_BYTES = 1 << 28
"""That are read at once; larger videos are decoded from their place."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """A picture or clip: a file, a part of one (a member of a tar), or bytes that were read."""

    kind: Literal["image", "video"]
    name: str
    """For messages and ledgers: a path, or that of an archive with the member's name."""
    path: Path | None = None
    offset: int = 0
    size: int | None = None
    """Bytes of the part; None: to the end of the file."""
    content: bytes | None = None

    def read(self) -> bytes:
        """Its bytes, undecoded.

        Raises:
            DataError: the file is gone or shorter than it was, or the part of it has over 256 MB.
        """
        if self.content is not None:
            return self.content
        if self.size is not None and self.size > _MAX_BYTES:
            raise DataError(
                f"{self.name} has {self.size:,} bytes, more than the limit of {_MAX_BYTES >> 20} "
                "MB: is it a picture?"
            )
        if self.path is None:
            raise ValueError(f"{self.name} has neither a path nor bytes")
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read() if self.size is None else file.read(self.size)
        except OSError as error:
            raise DataError(
                f"{self.name} cannot be read ({error.strerror}): bring it back"
            ) from None
        if self.size is not None and len(content) != self.size:
            raise DataError(f"{self.name} is cut short: copy {self.path} again")
        return content


@dataclass(frozen=True, kw_only=True)
class RawDocument:
    """One document of a source; a `pair` is one text and one picture or clip, in this order."""

    id: str
    """Unique within its source, and the same whenever it is read."""
    segments: tuple[str | Media, ...]
    kind: Literal["pair", "document"]
    loss: tuple[bool, ...] | None = None
    """Which segments are learned; None: all."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the source says of it (url, similarity), as JSON."""

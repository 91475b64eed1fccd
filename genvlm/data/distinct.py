"""Pictures of a corpus, equal ones once, encoded a few hundred at a time."""

import hashlib

from genvlm.data.images import RGBImage

# Pictures that are encoded together.
CHUNK = 512


class DistinctPictures:
    """Numbers pictures in the order in which they first come."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}  # by shape and bytes
        self._waiting: list[RGBImage] = []

    def number(self, picture: RGBImage) -> int:
        """Of a picture, which is kept until it is taken."""
        digest = hashlib.blake2b(str(picture.shape).encode(), digest_size=16)
        digest.update(picture.tobytes())
        key = digest.digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._waiting.append(picture)
        return self._numbers[key]

    def take(self, least: int = 1) -> list[RGBImage]:
        """What is to be encoded next, in order; nothing as long as it is less."""
        if len(self._waiting) < least:
            return []
        taken, self._waiting = self._waiting, []
        return taken

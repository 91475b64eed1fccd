"""Pictures and clips of a corpus, equal ones once, encoded a few hundred frames at a time."""

import hashlib

from genvlm.data.sources import Visual

# Pictures and frames of clips that are encoded together.
CHUNK = 512


class DistinctVisuals:
    """Numbers pictures and clips in the order in which they first come."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}  # by shape and bytes
        self._waiting: list[Visual] = []
        self._num_frames = 0  # that wait; a picture is one

    def number(self, visual: Visual) -> int:
        """Of a picture or clip, which is kept until it is taken."""
        digest = hashlib.blake2b(str(visual.shape).encode(), digest_size=16)
        digest.update(visual.tobytes())
        key = digest.digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._waiting.append(visual)
            self._num_frames += len(visual) if visual.ndim == 4 else 1
        return self._numbers[key]

    def take(self, least: int = 1) -> list[Visual]:
        """What is to be encoded next, in order; nothing as long as it is fewer frames."""
        if self._num_frames < least:
            return []
        taken, self._waiting, self._num_frames = self._waiting, [], 0
        return taken

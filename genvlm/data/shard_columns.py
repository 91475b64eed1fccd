"""The arrays of a token shard while it grows, one sample after another."""

from collections.abc import Sequence

import numpy as np

from genvlm.data.shards import KINDS
from genvlm.data.sources import Sample


class ShardColumns:
    """Collects what `genvlm.data.shards` lists; numbers are as narrow as the tokenizers allow.

    Args:
        text_size: pieces of the text tokenizer.
        codebook_size: codes of the image tokenizer.
    """

    def __init__(self, *, text_size: int, codebook_size: int) -> None:
        self._piece_type, self._code_type = _narrowest(text_size), _narrowest(codebook_size)
        self._ids: list[bytes] = []
        self._kinds: list[int] = []
        self._num_segments: list[int] = []
        self._is_image: list[bool] = []
        self._learned: list[bool] = []
        self._refs: list[int] = []
        self._texts: list[bytes] = []
        self._pieces: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._shapes: list[tuple[int, int]] = []
        self.num_tokens = 0
        """Pieces and codes so far."""

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, sample: Sample, pieces: Sequence[Sequence[int]], pictures: Sequence[int]) -> None:
        """Append a sample.

        Args:
            pieces: of its texts, in their order.
            pictures: for each picture number in the sample, which `add_picture` is or will be it.
        """
        of_texts = iter(pieces)
        for segment in sample.segments:
            is_image = isinstance(segment, int)
            self._is_image.append(is_image)
            if isinstance(segment, int):
                self._refs.append(pictures[segment])
            else:
                self._refs.append(len(self._texts))
                self._texts.append(segment.encode())
                self._pieces.append(np.array(next(of_texts), self._piece_type))
                self.num_tokens += len(self._pieces[-1])
        self._ids.append(sample.id.encode())
        self._kinds.append(KINDS.index(sample.kind))
        self._num_segments.append(len(sample.segments))
        self._learned += sample.loss or [True] * len(sample.segments)

    def add_picture(self, codes: np.ndarray) -> None:
        """Append the codes (rows, columns) of the next picture."""
        self._codes.append(codes.astype(self._code_type).reshape(-1))
        self._shapes.append((codes.shape[0], codes.shape[1]))
        self.num_tokens += codes.size

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them, by name."""
        return {
            "ids": np.frombuffer(b"".join(self._ids), np.uint8),
            "id_offsets": _offsets([len(i) for i in self._ids]),
            "kinds": np.array(self._kinds, np.uint8),
            "segment_offsets": _offsets(self._num_segments),
            "is_image": np.array(self._is_image, np.uint8),
            "learned": np.array(self._learned, np.uint8),
            "refs": np.array(self._refs, np.int32),
            "text": np.frombuffer(b"".join(self._texts), np.uint8),
            "text_offsets": _offsets([len(t) for t in self._texts]),
            "pieces": np.concatenate([np.zeros(0, self._piece_type), *self._pieces]),
            "piece_offsets": _offsets([len(p) for p in self._pieces]),
            "codes": np.concatenate([np.zeros(0, self._code_type), *self._codes]),
            "code_offsets": _offsets([rows * columns for rows, columns in self._shapes]),
            "shapes": np.array(self._shapes, np.int32).reshape(-1, 2),
        }


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)


def _narrowest(size: int) -> type[np.uint16] | type[np.int32]:
    return np.uint16 if size <= 2**16 else np.int32

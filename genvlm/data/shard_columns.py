"""The arrays of a token shard while it grows, one sample after another."""

from collections.abc import Sequence

import numpy as np

from genvlm.data.shards import KINDS
from genvlm.data.sources import Sample


class ShardColumns:
    """Collects what `genvlm.data.shards` lists; numbers are as narrow as the tokenizers allow.

    Args:
        text_size: pieces of the text tokenizer.
        codebook_size: codes of the image or the video tokenizer, whichever has more.
    """

    def __init__(self, *, text_size: int, codebook_size: int) -> None:
        self._piece_type, self._code_type = _narrowest(text_size), _narrowest(codebook_size)
        self._ids: list[bytes] = []
        self._kinds: list[int] = []
        self._num_segments: list[int] = []
        self._is_visual: list[bool] = []
        self._learned: list[bool] = []
        self._refs: list[int] = []
        self._texts: list[bytes] = []
        self._pieces: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._shapes: list[tuple[int, int, int]] = []
        self.num_tokens = 0
        """Pieces and codes so far."""

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, sample: Sample, pieces: Sequence[Sequence[int]], visuals: Sequence[int]) -> None:
        """Append a sample.

        Args:
            pieces: of its texts, in their order.
            visuals: for each number of a visual in the sample, which `add_visual` is or will be it.
        """
        of_texts = iter(pieces)
        for segment in sample.segments:
            self._is_visual.append(isinstance(segment, int))
            if isinstance(segment, int):
                self._refs.append(visuals[segment])
            else:
                self._refs.append(len(self._texts))
                self._texts.append(segment.encode())
                self._pieces.append(np.array(next(of_texts), self._piece_type))
                self.num_tokens += len(self._pieces[-1])
        self._ids.append(sample.id.encode())
        self._kinds.append(KINDS.index(sample.kind))
        self._num_segments.append(len(sample.segments))
        self._learned += sample.loss or [True] * len(sample.segments)

    def add_visual(self, codes: np.ndarray) -> None:
        """Append the codes of the next picture (rows, columns) or clip (frames, rows, columns)."""
        self._codes.append(codes.astype(self._code_type).reshape(-1))
        frames = len(codes) if codes.ndim == 3 else 0
        self._shapes.append((frames, codes.shape[-2], codes.shape[-1]))
        self.num_tokens += codes.size

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them, by name."""
        return {
            "ids": np.frombuffer(b"".join(self._ids), np.uint8),
            "id_offsets": _offsets([len(i) for i in self._ids]),
            "kinds": np.array(self._kinds, np.uint8),
            "segment_offsets": _offsets(self._num_segments),
            "is_visual": np.array(self._is_visual, np.uint8),
            "learned": np.array(self._learned, np.uint8),
            "refs": np.array(self._refs, np.int32),
            "text": np.frombuffer(b"".join(self._texts), np.uint8),
            "text_offsets": _offsets([len(t) for t in self._texts]),
            "pieces": np.concatenate([np.zeros(0, self._piece_type), *self._pieces]),
            "piece_offsets": _offsets([len(p) for p in self._pieces]),
            "codes": np.concatenate([np.zeros(0, self._code_type), *self._codes]),
            "code_offsets": _offsets([len(codes) for codes in self._codes]),
            "shapes": np.array(self._shapes, np.int32).reshape(-1, 3),
        }


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)


def _narrowest(size: int) -> type[np.uint16] | type[np.int32]:
    return np.uint16 if size <= 2**16 else np.int32

"""Scores and answers kept on disk, so that an interrupted evaluation goes on where it stopped.

A key holds everything that can change a value: the fingerprint of the scorer, the item's id, its
texts or prompt, and the pixels of its pictures or clips. Another model or prompt is a miss.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from genvlm.data.images import RGBImage, image_digest
from genvlm.data.videos import VideoFrames
from genvlm.errors import EvaluationError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.scoring.protocols import (
    Answer,
    Answerer,
    ClipSet,
    Grid,
    Plausibility,
    Question,
    Scorer,
    ScorerInfo,
    Scores,
    VideoScorer,
)

_Asked = TypeVar("_Asked", Grid, Question, ClipSet)
_Found = TypeVar("_Found", Scores, Answer, Plausibility)


class ValueCache:
    """One JSON line a value, appended as soon as it is known."""

    def __init__(self, path: Path) -> None:
        """Raises EvaluationError: the file is damaged elsewhere than in a last, cut line."""
        self._path = path
        self._values: dict[str, Any] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        whole = 0
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break  # cut short, even if it happens to be whole
            try:
                row = json.loads(line)
                self._values[row["key"]] = row["value"]
            except (ValueError, KeyError, TypeError):
                raise EvaluationError(
                    f"{path}, line {number}, is damaged: delete the file and run again"
                ) from None
            whole += len(line)
        if path.is_file() and whole < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(whole)

    def find(
        self,
        asked: Sequence[_Asked],
        key: Callable[[_Asked], str],
        compute: Callable[[list[_Asked]], Sequence[_Found]],
        write: Callable[[_Found], Any],
        read: Callable[[Any], _Found],
    ) -> list[_Found]:
        """A value for each, of which only those not known are computed."""
        keys = [key(one) for one in asked]
        new = [(k, one) for k, one in zip(keys, asked, strict=True) if k not in self._values]
        if new:
            found = compute([one for _, one in new])
            with self._path.open("a", encoding="utf-8") as file:
                for (k, _), value in zip(new, found, strict=True):
                    self._values[k] = write(value)
                    file.write(json.dumps({"key": k, "value": self._values[k]}) + "\n")
        return [read(self._values[k]) for k in keys]


class CachedScorer:
    """A scorer that remembers. Monte Carlo samples are not kept."""

    def __init__(self, scorer: Scorer, cache: ValueCache) -> None:
        self._scorer, self._cache = scorer, cache
        self.info: ScorerInfo = scorer.info

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """As the scorer's own."""
        return self._cache.find(grids, self._key, self._scorer.score, _write_scores, _read_scores)

    def _key(self, grid: Grid) -> str:
        return _key(self.info, grid.item_id, grid.texts, grid.images)


class CachedVideoScorer:
    """A scorer of clips that remembers."""

    def __init__(self, scorer: VideoScorer, cache: ValueCache) -> None:
        self._scorer, self._cache = scorer, cache
        self.info: ScorerInfo = scorer.info

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """As the scorer's own."""
        return self._cache.find(
            sets,
            lambda one: _key(self.info, one.item_id, (), one.clips),
            self._scorer.score,
            lambda found: [None if part is None else part.tolist() for part in found],
            lambda value: Plausibility(*(None if v is None else np.array(v) for v in value)),
        )


class CachedAnswerer:
    """An answerer that remembers."""

    def __init__(self, answerer: Answerer, cache: ValueCache) -> None:
        self._answerer, self._cache = answerer, cache
        self.info: ScorerInfo = answerer.info

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """As the answerer's own."""
        return self._cache.find(
            questions, self._key, self._answerer.answer, list, lambda value: Answer(*value)
        )

    def _key(self, question: Question) -> str:
        texts = [question.prompt, str(question.max_new_tokens)]
        return _key(self.info, question.item_id, texts, question.images)


def _key(
    info: ScorerInfo,
    item_id: str,
    texts: Sequence[str],
    images: Sequence[RGBImage] | Sequence[VideoFrames],
) -> str:
    pictures = [image_digest(image) for image in images]
    return fingerprint_of(
        {"scorer": info.fingerprint, "item": item_id, "texts": list(texts), "images": pictures}
    )


def _write_scores(scores: Scores) -> list[Any]:
    tokens = scores.num_tokens
    return [np.asarray(scores.values).tolist(), None if tokens is None else tokens.tolist()]


def _read_scores(value: list[Any]) -> Scores:
    values, tokens = value
    return Scores(np.array(values, np.float64), None if tokens is None else np.array(tokens))

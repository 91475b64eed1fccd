"""Which parts of a training document become gaps (CM3): spans, whole pictures, rectangles."""

import numpy as np

from genvlm.config.data import InfillConfig
from genvlm.tokenization.document import EncodedDocument
from genvlm.tokenization.grammar import MAX_GAPS
from genvlm.tokenization.infilling import Gap, mask_gaps, rotate
from genvlm.tokenization.vocabulary import Modality, Vocabulary


def rotate_at_random(
    document: EncodedDocument,
    config: InfillConfig,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    max_tokens: int,
) -> EncodedDocument:
    """The document rotated, with the configured probability; or as it is.

    One gap or more, a Poisson number of mean one as in CM3; one that meets an earlier gap is left
    out. A document that would become too long is not rotated.
    """
    if rng.random() >= config.probability:
        return document
    gaps: list[Gap] = []
    for _ in range(max(1, int(rng.poisson(1.0)))):
        proposed = _propose(document, config, vocabulary, rng)
        gaps += [g for g in proposed if all(g.stop <= o.start or g.start >= o.stop for o in gaps)]
    spans = [g for g in gaps if not _is_run(document, g)][: vocabulary.num_gaps]
    runs = [g for g in gaps if _is_run(document, g)][: MAX_GAPS - len(spans)]
    if not spans and not runs:
        return document
    rotated = rotate(document, [*spans, *runs], vocabulary)
    return rotated if len(rotated.token_ids) <= max_tokens else document


def random_rectangle(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A mask of codes. Each side is half, all or, as often as both together, any part of it."""
    sides = []
    for length in shape:
        half = max(1, length // 2)
        sides.append(int(rng.choice([half, length, *rng.integers(1, length + 1, 2)])))
    top, left = (int(rng.integers(n - s + 1)) for n, s in zip(shape, sides, strict=True))
    mask = np.zeros(shape, bool)
    mask[top : top + sides[0], left : left + sides[1]] = True
    return mask


def _propose(
    document: EncodedDocument,
    config: InfillConfig,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
) -> list[Gap]:
    """One gap (a rectangle: one a row) somewhere in the document."""
    images = _blocks(document, Modality.IMAGE)
    texts = _blocks(document, Modality.TEXT)
    if images and (not texts or rng.random() < config.image):
        number = int(rng.integers(len(images)))
        start, stop = images[number]
        rows, columns = (document.positions[stop - 1][1:] + 1).tolist()
        if rng.random() < config.rectangle:
            return mask_gaps(document, random_rectangle((rows, columns), rng), number)
        begin = start - (3 if vocabulary.sized_images else 1)  # BOI, rows, columns
        return [Gap(begin, stop + 1)]
    if not texts:
        return []
    start, stop = texts[rng.integers(len(texts))]
    length = int(rng.integers(1, stop - start + 1))
    begin = int(rng.integers(start, stop - length + 1))
    return [Gap(begin, begin + length)]


def _blocks(document: EncodedDocument, modality: Modality) -> list[tuple[int, int]]:
    """Runs of one modality: first token and the one behind the last."""
    inside = np.pad((document.modality == modality).astype(np.int8), 1)
    edges = np.diff(inside)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _is_run(document: EncodedDocument, gap: Gap) -> bool:
    return bool(document.modality[gap.start] == Modality.IMAGE)

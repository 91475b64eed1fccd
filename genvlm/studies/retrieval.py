"""Retrieval: a gallery of pictures and captions, ranked both ways by any scorer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from genvlm.data.emoji import Vendor
from genvlm.data.hashed import hash_rank
from genvlm.data.images import ImageFiles, RGBImage, image_digest
from genvlm.data.readers import read_pairs
from genvlm.data.scenes import (
    ICONS,
    INVERSE,
    Relation,
    Scene,
    is_held_out,
    render_scene,
)
from genvlm.errors import ConfigError, EvaluationError
from genvlm.evaluation.benchmark import Progress
from genvlm.evaluation.retrieval import CUTOFFS, RankedQueries, Retrieval, rank_gallery
from genvlm.evaluation.statistics import Undefined
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.open import Method, is_mixed_modal, open_scorer
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo
from genvlm.scoring.relative import RelativeScorer

NUM_SCENES = 200
SCHEMA = 1
# Of one call of a scorer: enough to fill its batches, few enough to be kept and shown often.
_PAIRS_TOGETHER = 2**12

_LEADING: tuple[Relation, ...] = ("left of", "above")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Distinct pictures and distinct captions, and which belong together."""

    name: str
    image_ids: tuple[str, ...]
    images: Sequence[RGBImage]
    texts: tuple[str, ...]
    relevant: Bool[np.ndarray, "images texts"]
    clusters: tuple[str, ...] | None = None
    """Of each image, those that are found or missed together; None: each is on its own."""
    notes: tuple[str, ...] = ()
    """What was made one because it was the same."""


class Directions(NamedTuple):
    """What ranks texts and what ranks images; often one scorer."""

    image_to_text: Scorer
    text_to_image: Scorer


@dataclass(frozen=True, kw_only=True)
class RetrievalResult:
    """A gallery that was ranked."""

    gallery: Gallery
    scorers: Mapping[str, ScorerInfo] = field(default_factory=dict)
    """By direction."""
    retrieval: Retrieval


def scene_gallery(num: int = NUM_SCENES, seed: int = 0, vendor: Vendor = "noto") -> Gallery:
    """Composed scenes of two icons that never stood together in training.

    A pair of icons comes in all four pictures that it makes: either left of the other or above it.
    So who knows the icons alone finds the right four, and who knows the words' order the right one.
    Each picture has one caption, in one of its two wordings, which is true of no other.

    Raises:
        EvaluationError: there are not that many.
    """
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in combinations(ICONS, 2) if is_held_out(*pair)]
    most = len(pairs) * 4
    if num > most:
        raise EvaluationError(
            f"there are {most} pictures of two icons that are held out, not {num}: ask for fewer"
        )
    scenes: list[Scene] = []
    for number in rng.permutation(len(pairs)):
        for first, second in permutations(pairs[number]):
            for relation in _LEADING:
                turned = Scene(second, INVERSE[relation], first)
                scenes.append(turned if rng.random() < 0.5 else Scene(first, relation, second))
    chosen = scenes[:num]
    captions = tuple(scene.caption for scene in chosen)
    return Gallery(
        name=f"held-out scenes ({vendor}, seed {seed})",
        image_ids=captions,
        images=[render_scene(scene, vendor) for scene in chosen],
        texts=captions,
        relevant=np.eye(num, dtype=np.bool_),
        clusters=tuple("|".join(sorted((s.first.label, s.second.label))) for s in chosen),
    )


def captions_gallery(path: Path, num: int | None = None) -> Gallery:
    """Pictures of a `captions.jsonl`, with all their captions.

    A picture may be listed several times, once for each caption. Captions with the same words are
    one, and so are pictures with the same pixels, since nothing tells them apart.

    Args:
        path: the file, or its folder.
        num: of the pictures, those with the smallest hash of their path; all by default.

    Raises:
        DataError: a line is wrong, or a file is no picture.
        EvaluationError: pictures are missing, or fewer than asked for; they are counted.
    """
    file = path / "captions.jsonl" if path.is_dir() else path
    texts_of: dict[str, list[str]] = {}
    for pair in read_pairs(file):
        name = pair.image.relative_to(file.parent).as_posix()
        texts_of.setdefault(name, []).append(pair.text)
    names = sorted(texts_of, key=hash_rank)[:num]
    if num is not None and num > len(names):
        raise EvaluationError(f"{file} names {len(names)} pictures, not {num}: ask for fewer")
    images = ImageFiles([file.parent / name for name in names])
    if images.missing:
        raise EvaluationError(
            f"{len(images.missing)} of {len(names)} pictures of {file} are missing, such as "
            f"{images.missing[0]}: put them there or leave their lines out"
        )
    first_of: dict[str, int] = {}
    same_as = [first_of.setdefault(image_digest(images[k]), k) for k in range(len(names))]
    kept = sorted(first_of.values())
    texts = tuple(dict.fromkeys(text for name in names for text in texts_of[name]))
    columns = {text: column for column, text in enumerate(texts)}
    relevant = np.zeros((len(kept), len(texts)), np.bool_)
    for name, first in zip(names, same_as, strict=True):
        relevant[kept.index(first), [columns[text] for text in texts_of[name]]] = True
    twice = len(names) - len(kept)
    repeated = sum(len(texts_of[name]) for name in names) - len(texts)
    notes = [f"{twice} pictures have the pixels of another and are one with it"] if twice else []
    notes += [f"{repeated} captions have the words of another and are one with it"] * (repeated > 0)
    return Gallery(
        name=file.parent.name,
        image_ids=tuple(names[k] for k in kept),
        images=ImageFiles([file.parent / names[k] for k in kept]),
        texts=texts,
        relevant=relevant,
        notes=tuple(notes),
    )


def open_directions(
    folder: str | Path, methods: Sequence[Method] = (), *, device: str = "cpu"
) -> Directions:
    """What ranks the gallery of a model folder.

    Bayes' rule with priors that are flat: our transformer ranks texts by log p(image | text) and
    images by log p(text | image). Diffusion models have log p(image | text) alone, from which
    that of the empty text is subtracted where they have learned to go without a text. Others rank
    both by their one score.

    Args:
        methods: of texts and of images, or one for both.

    Raises:
        ConfigError: more than two methods, or one that the model does not have.
        CheckpointError: no model there.
    """
    if len(methods) > 2:
        raise ConfigError(
            f"there are two directions, and {len(methods)} methods were given: name one for both, "
            "or what ranks captions and what ranks pictures"
        )
    if not methods and is_mixed_modal(folder):
        methods = ("image_given_text", "text_given_image")
    scorers = [open_scorer(folder, method, device=device) for method in methods or (None,)]
    both = [relative_to_nothing(s) for s in scorers]
    return Directions(both[0], both[-1])


def relative_to_nothing(scorer: Scorer) -> Scorer:
    """Of a diffusion model that has learned to go without a text, less what it gives without.

    Others as they are: theirs compare between images already.
    """
    if isinstance(scorer, DiffusionScorer) and scorer.model.condition_dropout:
        return RelativeScorer(scorer)
    return scorer


def score_gallery(
    directions: Directions,
    images: Sequence[RGBImage],
    texts: Sequence[str],
    progress: Progress | None = None,
) -> list[Float64[np.ndarray, "images texts"]]:
    """The scores that rank texts and those that rank images; the same where one scorer does both.

    Raises:
        EvaluationError: a scorer gives a matrix of another shape.
    """
    scorers = list(dict.fromkeys(directions))
    step = max(1, _PAIRS_TOGETHER // len(texts))
    done, total = 0, len(scorers) * len(images) * len(texts)
    matrices = []
    for scorer in scorers:
        parts = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            name = f"pictures {start + 1} to {start + len(part)} of the gallery"
            (found,) = scorer.score([Grid(item_id=name, images=part, texts=texts)])
            if np.shape(found.values) != (len(part), len(texts)):
                raise EvaluationError(
                    f"{scorer.info.name} gave scores of shape {np.shape(found.values)} for "
                    f"{len(part)} images and {len(texts)} texts"
                )
            parts.append(np.asarray(found.values, np.float64))
            done += len(part) * len(texts)
            if progress is not None:
                progress(done, total)
        matrices.append(np.concatenate(parts))
    return [matrices[0], matrices[-1]]


def run_retrieval(
    gallery: Gallery, directions: Directions, progress: Progress | None = None
) -> RetrievalResult:
    """Score a gallery and rank it both ways. Raises as `score_gallery` and `rank_gallery`."""
    by_image, by_text = score_gallery(directions, gallery.images, gallery.texts, progress)
    return RetrievalResult(
        gallery=gallery,
        scorers={
            "image_to_text": directions.image_to_text.info,
            "text_to_image": directions.text_to_image.info,
        },
        retrieval=rank_gallery(
            by_image,
            gallery.relevant,
            gallery.image_ids,
            gallery.texts,
            text_to_image=by_text,
            clusters=gallery.clusters,
        ),
    )


def retrieval_json(result: RetrievalResult) -> dict[str, Any]:
    """`results.json`: every number of the table, and the rank of every query."""
    gallery = result.gallery
    return {
        "schema": SCHEMA,
        "gallery": {
            "name": gallery.name,
            "num_images": len(gallery.image_ids),
            "num_texts": len(gallery.texts),
            "notes": list(gallery.notes),
        },
        **{
            name: {
                "scorer": result.scorers[name].name,
                "fingerprint": result.scorers[name].fingerprint,
                **_direction_json(ranked),
            }
            for name, ranked in result.retrieval._asdict().items()
        },
    }


def _direction_json(ranked: RankedQueries) -> dict[str, Any]:
    recalls = {cutoff: ranked.recall(cutoff) for cutoff in CUTOFFS}
    columns = ranked.ids, ranked.groups, ranked.ranks.tolist(), ranked.num_relevant.tolist()
    return {
        "num_queries": len(ranked.ids),
        "num_candidates": ranked.num_candidates,
        "median_rank": ranked.median_rank,
        "recall": {
            str(cutoff): {
                "value": recall.value,
                "interval": None if isinstance(recall.interval, Undefined) else recall.interval,
                "chance": recall.chance,
            }
            for cutoff, recall in recalls.items()
        },
        "queries": [
            {"id": name, "group": group, "rank": rank, "num_relevant": num}
            for name, group, rank, num in zip(*columns, strict=True)
        ],
    }

"""Scorers of clips: a model's likelihood of what comes after the first frames, and its controls.

The controls know the same clips by less: neighbouring frames alone, single frames alone, frames in
a wrong order, no training. Where one of them tells lawful from broken clips, the likelihood needs
no physics to do so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from genvlm.data.hashed import hash_rank
from genvlm.data.images import image_digest
from genvlm.data.videos import VideoFrames
from genvlm.errors import ConfigError, VideoError
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import PretrainedModel, codebooks_of, find_video_tokenizer
from genvlm.scoring.protocols import ClipSet, Plausibility, ScorerInfo
from genvlm.scoring.video import VideoCodes, score_video

# Sums of numbers that are multiples of 2^-16 are exact in float64, whatever their order: clips of
# the same frames then tie, instead of being told apart by rounding.
_EXACT = 2.0**16


class VideoCodeCache:
    """Encodes clips, each distinct one once: model and controls ask for the same ones."""

    def __init__(self, pretrained: PretrainedModel) -> None:
        self._tokenizer = find_video_tokenizer(pretrained)
        self._codes: dict[str, VideoCodes] = {}

    def encode(self, clips: Iterable[VideoFrames]) -> list[VideoCodes]:
        """Codes of clips of 1 + r k frames.

        Raises:
            VideoError: a number of frames that does not fit r.
        """
        clips = list(clips)
        keys = [image_digest(clip) for clip in clips]
        new = {key: clip for key, clip in zip(keys, clips, strict=True) if key not in self._codes}
        # Small codes of thousands of clips stay in memory.
        for key, codes in zip(new, self._tokenizer.encode(list(new.values())), strict=True):
            self._codes[key] = codes.astype(np.int32)
        return [self._codes[key] for key in keys]


class VideoLikelihoodScorer:
    """log p(later frames | first frames) in nats: minus the surprise.

    Args:
        context: frames that are given, 1 + r k of them.

    Raises:
        ConfigError: a model without video tokenizer, or a context that does not fit r.
    """

    def __init__(
        self,
        pretrained: PretrainedModel,
        context: int,
        codes: VideoCodeCache | None = None,
    ) -> None:
        self._pretrained = pretrained
        self._codes = codes or VideoCodeCache(pretrained)
        self._given = given_latents(pretrained, context)
        self.info = _info("log p(video)", pretrained, context)

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """All clips of all sets share batches.

        Raises:
            VideoError: a clip with nothing behind the context, or of a length that does not fit r.
        """
        codes = [self._codes.encode(one.clips) for one in sets]
        flat = [clip for clips in codes for clip in clips]
        scored = score_video(self._pretrained, flat, context=self._given)
        results, at = [], 0
        for clips in codes:
            part = [s.frames[self._given :] for s in scored[at : at + len(clips)]]
            at += len(clips)
            totals = np.array([frames.sum() for frames in part])
            even = len({len(frames) for frames in part}) == 1
            results.append(Plausibility(totals, np.array(part) if even else None))
        return results


class ShuffledFramesScorer:
    """The same likelihood of latent frames in a shuffled order behind the given ones.

    All clips of a set have the same order, which follows from the id of the set.
    """

    def __init__(
        self, pretrained: PretrainedModel, context: int, codes: VideoCodeCache | None = None
    ) -> None:
        self._pretrained = pretrained
        self._codes = codes or VideoCodeCache(pretrained)
        self._given = given_latents(pretrained, context)
        self.info = _info("shuffled frames", pretrained, context)

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """Raises VideoError: fewer than two latent frames behind the context."""
        codes = [self._codes.encode(one.clips) for one in sets]
        flat = [
            clip[shuffled_order(len(clip), self._given, one.item_id)]
            for one, clips in zip(sets, codes, strict=True)
            for clip in clips
        ]
        totals = np.array(
            [s.total for s in score_video(self._pretrained, flat, context=self._given)]
        )
        ends = np.cumsum([len(clips) for clips in codes])[:-1]
        return [Plausibility(part) for part in np.split(totals, ends)]


class SingleFrameScorer:
    """Sum of log p(frame) over the frames behind the context, each as a video of that frame alone.

    So a frame is judged by how it looks, and by nothing that is before it.
    """

    def __init__(self, pretrained: PretrainedModel, context: int) -> None:
        self._pretrained, self._context = pretrained, context
        given_latents(pretrained, context)
        self.info = _info("single frame", pretrained, context)

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """Each distinct frame is scored once, so that clips of the same frames tie."""
        clips = [[clip[self._context :, None] for clip in one.clips] for one in sets]
        frames = {image_digest(frame): frame for of in clips for clip in of for frame in clip}
        codes = find_video_tokenizer(self._pretrained).encode(list(frames.values()))
        scored = score_video(self._pretrained, codes, context=0)
        known = {
            key: np.round(s.total * _EXACT) / _EXACT for key, s in zip(frames, scored, strict=True)
        }
        return [
            Plausibility(
                np.array([sum(known[image_digest(frame)] for frame in clip) for clip in of])
            )
            for of in clips
        ]


class FrameDifferenceScorer:
    """Minus the sum of absolute differences of neighbouring frames behind the context, of uint8.

    Less motion is taken as more plausible. The opposite would get 100 minus what this gets.
    """

    def __init__(self, context: int) -> None:
        self._context = context
        settings = {"kind": "frame difference", "context": context}
        self.info = ScorerInfo(name="frame difference", unit="arbitrary", settings=settings)

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """Whole numbers, so that clips of the same pairs of frames tie."""
        return [
            Plausibility(np.array([-self._difference(clip) for clip in one.clips])) for one in sets
        ]

    def _difference(self, clip: VideoFrames) -> float:
        behind = clip[self._context - 1 :].astype(np.int16)
        return float(np.abs(np.diff(behind, axis=0)).sum(dtype=np.int64))


class UntrainedScorer:
    """The likelihood of models with the weights with which training would begin, new for each set.

    One network with random weights prefers the one or the other kind of clip of a law by accident,
    and then in nearly all of them; only what all such networks prefer tells of the clips. The
    weights follow from the id of the set.
    """

    def __init__(
        self, pretrained: PretrainedModel, context: int, codes: VideoCodeCache | None = None
    ) -> None:
        self._pretrained = pretrained
        self._codes = codes or VideoCodeCache(pretrained)
        self._given = given_latents(pretrained, context)
        self.info = _info("untrained", pretrained, context)

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """As `VideoLikelihoodScorer`."""
        found = []
        for one in sets:
            model = untrained(self._pretrained, _seed(one.item_id))
            scored = score_video(model, self._codes.encode(one.clips), context=self._given)
            found.append(Plausibility(np.array([s.total for s in scored])))
        return found


class ConstantVideoScorer:
    """Every clip is as plausible as any other."""

    info = ScorerInfo(name="constant", unit="arbitrary")

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """All zero."""
        return [Plausibility(np.zeros(len(one.clips))) for one in sets]


def untrained(pretrained: PretrainedModel, seed: int) -> PretrainedModel:
    """The same architecture and tokenizers with the weights with which training would begin."""
    model = build_transformer(
        pretrained.model.config,
        pretrained.vocabulary.size,
        seed=seed,
        codebooks=codebooks_of(pretrained.image_tokenizer, pretrained.video_tokenizer),
    )
    weight = pretrained.model.embedding.weight
    fresh = model.to(weight.device, weight.dtype).eval().requires_grad_(False)
    return replace(pretrained, model=fresh)


def shuffled_order(num_latents: int, given: int, item_id: str) -> Int64[np.ndarray, " latents"]:
    """The given latent frames as they are, the others in another order than their own.

    Raises:
        VideoError: fewer than two others.
    """
    if num_latents - given < 2:
        raise VideoError(
            f"item {item_id!r}: {num_latents - given} latent frames behind the context cannot be "
            "shuffled; take longer clips"
        )
    rng = np.random.default_rng(_seed(item_id))
    order = np.arange(num_latents)
    while (order == np.arange(num_latents)).all():
        order[given:] = given + rng.permutation(num_latents - given)
    return order


def given_latents(pretrained: PretrainedModel, context: int) -> int:
    """Latent frames of `context` frames of pixels.

    Raises:
        ConfigError: no video tokenizer, or the context is not 1 + r k frames.
    """
    tokenizer = find_video_tokenizer(pretrained)
    try:
        return tokenizer.config.num_latents(context)
    except ConfigError as error:
        raise ConfigError(f"the context: {error}") from None


def _info(name: str, pretrained: PretrainedModel, context: int) -> ScorerInfo:
    return ScorerInfo(
        name=name,
        unit="nats",
        settings={
            "kind": "mixed_modal video",
            "context": context,
            "normalization": "grammar",
            "dtype": str(pretrained.model.embedding.weight.dtype),
            "model": pretrained.fingerprint,
        },
    )


def _seed(item_id: str) -> int:
    return int(hash_rank(item_id)[:12], 16)

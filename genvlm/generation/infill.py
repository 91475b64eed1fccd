"""Filling gaps: missing text, missing images, masked parts of pictures (CM3 infilling)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError, ImageError, TokenError
from genvlm.generation.guidance import companions
from genvlm.generation.interleaved import warn_if_unguided
from genvlm.generation.rows import ONE_IMAGE, TEXT_ONLY, Rows
from genvlm.generation.sampled import SampledDocument, sampled_document
from genvlm.generation.sampling import SamplingSettings, row_generators
from genvlm.generation.stream import run
from genvlm.models.pretrained import PretrainedModel, check_visual
from genvlm.tokenization.document import Document, Image, Segment, Text, Video, encode_document
from genvlm.tokenization.infilling import Gap, mask_gaps, rotate


@dataclass(frozen=True)
class MissingText:
    """Text that is to be found."""


@dataclass(frozen=True)
class MissingImage:
    """A picture that is to be drawn."""


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """A picture of which some codes are to be drawn."""

    codes: Int[np.ndarray, "rows columns"]
    mask: Bool[np.ndarray, "rows columns"]
    """True where codes are missing; what `codes` holds there is not looked at."""


GappedSegment = Segment | MissingText | MissingImage | MaskedImage


@torch.inference_mode()
def fill_documents(
    pretrained: PretrainedModel,
    documents: Sequence[Sequence[GappedSegment]],
    settings: SamplingSettings,
    *,
    seed: int,
    batch_size: int = 50,
    progress: Callable[[int], None] = lambda done: None,
) -> list[SampledDocument]:
    """Fill every gap of every document; the results are whole documents.

    Guidance is against the same document without its text.

    Raises:
        ConfigError: the model was trained without infilling.
        TokenError: a document without gaps, of too many, or without room for what they need.
        GenerationError: the model gives NaN.
    """
    check_infilling(pretrained)
    warn_if_unguided(pretrained, settings)
    limit = pretrained.model.config.context_length
    prefixes = [_encode_gapped(pretrained, d) for d in documents]
    filled: list[SampledDocument] = []
    for start in range(0, len(prefixes), batch_size):
        part = prefixes[start : start + batch_size]
        rows = Rows(
            pretrained.model,
            pretrained.grammar,
            part,
            settings,
            row_generators(seed, len(part), start),
            limit,
            kinds=companions(settings, infilling=True),
            gap_contents=[_contents(d) for d in documents[start : start + batch_size]],
        )
        for prefix, sequence in zip(part, run(rows), strict=True):
            filled.append(sampled_document(pretrained, sequence, len(prefix)))
        progress(len(filled))
    return filled


def inpaint(
    pretrained: PretrainedModel,
    images: Sequence[RGBImage],
    masks: Sequence[Bool[np.ndarray, "height width"]],
    prompts: Sequence[str | None],
    settings: SamplingSettings,
    *,
    seed: int,
) -> list[RGBImage]:
    """Pictures whose masked pixels are drawn anew, to go with the rest and with the prompt.

    Args:
        masks: True where a pixel is to be drawn. Codes are drawn whole: a cell of the image
            tokenizer with any masked pixel; of it, only masked pixels are changed.

    Returns:
        Pictures as the tokenizer takes them (scaled, padded).

    Raises:
        ImageError: a mask of another size than its picture, or one that masks nothing.
        ConfigError, TokenError, GenerationError: as `fill_documents`.
    """
    parts = [masked_image(pretrained, i, m) for i, m in zip(images, masks, strict=True)]
    documents: list[list[GappedSegment]] = [
        [*([Text(prompt)] if prompt is not None else []), part.segment]
        for part, prompt in zip(parts, prompts, strict=True)
    ]
    filled = fill_documents(pretrained, documents, settings, seed=seed)
    results = []
    for document, part in zip(filled, parts, strict=True):
        drawn = pretrained.image_tokenizer.decode(document.images[-1][None])[0]
        results.append(np.where(part.mask[:, :, None], drawn, part.image))
    return results


class FittedMask(NamedTuple):
    """A picture and its mask as the tokenizer takes them, and as a segment."""

    image: RGBImage
    mask: Bool[np.ndarray, "height width"]
    segment: MaskedImage


def masked_image(
    pretrained: PretrainedModel, image: RGBImage, mask: Bool[np.ndarray, "height width"]
) -> FittedMask:
    """Fit a picture and its mask alike.

    Raises:
        ImageError: a mask of another size than its picture, or one that masks nothing.
    """
    if mask.shape != image.shape[:2]:
        raise ImageError(
            f"the mask has {mask.shape[1]}x{mask.shape[0]} pixels and the picture "
            f"{image.shape[1]}x{image.shape[0]}: make them equal"
        )
    if not mask.any():
        raise ImageError("the mask is empty: paint white what is to be drawn")
    fitted = pretrained.fit_image(image)
    fitted_mask = pretrained.image_tokenizer.fit_mask(mask, pretrained.syntax.max_side)
    codes = pretrained.encode_images([fitted])[0]
    cell = pretrained.image_tokenizer.config.downsample_factor
    by_cell = fitted_mask.reshape(codes.shape[0], cell, codes.shape[1], cell).any((1, 3))
    return FittedMask(fitted, fitted_mask, MaskedImage(codes, by_cell))


def check_infilling(pretrained: PretrainedModel) -> None:
    """Raises ConfigError for a model that cannot fill gaps."""
    if not pretrained.syntax.num_gaps:
        raise ConfigError(
            "this model was trained without infilling: train one with syntax.num_gaps and "
            "data.infill, such as configs/train/infill.yaml"
        )


def _encode_gapped(pretrained: PretrainedModel, segments: Sequence[GappedSegment]) -> list[int]:
    """Token ids up to INFILL. Stand-ins take the place of what is missing, and are cut off."""
    v, grid = pretrained.vocabulary, pretrained.grammar.grid
    if any(isinstance(segment, MissingImage) for segment in segments):
        check_visual(pretrained)
    at, owed, gaps, whole = 1, 0, list[Gap](), list[Segment]()
    for segment in segments:
        stand_in = _stand_in(segment, (1, 1) if v.sized_images else grid)
        encoded = encode_document(
            Document(id="gapped", segments=[stand_in]), v, pretrained.text_tokenizer, grid=grid
        )
        length = len(encoded.token_ids) - 2
        if isinstance(segment, MaskedImage):
            runs = mask_gaps(encoded, segment.mask)
            gaps += [Gap(g.start + at - 1, g.stop + at - 1) for g in runs]
            owed += sum(1 + g.stop - g.start for g in runs)
        elif not isinstance(segment, Text | Image | Video):
            gaps.append(Gap(at, at + length))
            owed += 2 + (length if isinstance(segment, MissingImage) else 1)
        whole.append(stand_in)
        at += length
    if not gaps:
        raise TokenError("the document has no gap to be filled: mask a part of it")
    encoded = encode_document(
        Document(id="gapped", segments=whole), v, pretrained.text_tokenizer, grid=grid
    )
    rotated = rotate(encoded, gaps, v).token_ids.tolist()
    prefix = rotated[: rotated.index(v.infill) + 1]
    context = pretrained.model.config.context_length
    if len(prefix) + owed + 1 > context:
        raise TokenError(
            f"the document has {len(prefix)} tokens and its gaps need at least {owed + 1}, more "
            f"than the context of {context}: shorten it"
        )
    return prefix


def _stand_in(segment: GappedSegment, smallest: tuple[int, int]) -> Segment:
    match segment:
        case MissingText():
            return Text("?")
        case MissingImage():
            return Image(np.zeros(smallest, np.int64))
        case MaskedImage(codes, mask):
            return Image(np.where(mask, 0, codes))
        case _:
            return segment


def _contents(segments: Sequence[GappedSegment]) -> list[int]:
    """What the span gaps take, in order."""
    kinds = {MissingText: TEXT_ONLY, MissingImage: ONE_IMAGE}
    return [kinds[type(s)] for s in segments if type(s) in kinds]

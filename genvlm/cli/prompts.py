"""Prompts from the command line: texts, documents with and without gaps, retrieved pairs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.inputs import load_fitted
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.data.readers import DocumentFile
    from genvlm.generation.infill import GappedSegment
    from genvlm.models.pretrained import PretrainedModel
    from genvlm.tokenization.document import Segment


def read_prompts(
    arguments: argparse.Namespace, pretrained: "PretrainedModel"
) -> "list[list[GappedSegment]]":
    """Prompts of `genvlm generate`: --prompt, with what is retrieved for it, or --document."""
    from genvlm.data.readers import read_documents
    from genvlm.tokenization.document import Text

    if arguments.prompt is None:
        files = read_documents(arguments.document, gaps=True)
        return [_document_segments(f, pretrained) for f in files]
    retrieved: list[Segment] = []
    if arguments.retrieve is not None:
        retrieved = _retrieved(arguments, pretrained)
    return [[*retrieved, Text(arguments.prompt)]]


def _retrieved(arguments: argparse.Namespace, pretrained: "PretrainedModel") -> "list[Segment]":
    from genvlm.data.readers import read_captions
    from genvlm.data.retrieval import TfIdfRetriever
    from genvlm.tokenization.document import Image, Text

    pairs = read_captions(arguments.retrieve)
    hits = TfIdfRetriever([p.text for p in pairs])(arguments.prompt, arguments.num_retrieved or 1)
    if not hits:
        raise ConfigError(f"no caption in {arguments.retrieve} shares a word with the prompt")
    segments: list[Segment] = []
    for hit in hits:
        codes = pretrained.encode_images([load_fitted(pairs[hit.number].image, pretrained)])
        segments += [Text(pairs[hit.number].text), Image(codes[0])]
        print(f"retrieved ({hit.similarity:.2f}): {pairs[hit.number].text}", file=sys.stderr)
    return segments


def _document_segments(
    document: "DocumentFile", pretrained: "PretrainedModel"
) -> "list[GappedSegment]":
    """Segments of a document file, its pictures encoded."""
    from genvlm.data.images import load_image, load_mask
    from genvlm.generation.infill import MissingImage, MissingText, masked_image
    from genvlm.tokenization.document import Image, Text

    segments: list[GappedSegment] = []
    for part in document.segments:
        if isinstance(part, str):
            segments.append(Text(part))
        elif isinstance(part, Path):
            segments.append(Image(pretrained.encode_images([load_fitted(part, pretrained)])[0]))
        elif part.image is not None and part.mask is not None:
            mask = load_mask(part.mask)
            segments.append(masked_image(pretrained, load_image(part.image), mask).segment)
        else:
            segments.append(MissingText() if part.kind == "text" else MissingImage())
    return segments


def has_gap(segments: "list[GappedSegment]") -> bool:
    """Whether something is missing."""
    from genvlm.generation.infill import MaskedImage, MissingImage, MissingText

    return any(isinstance(s, MissingText | MissingImage | MaskedImage) for s in segments)

"""Prompts from the command line: texts, documents with and without gaps, retrieved pairs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.inputs import load_fitted
from genvlm.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from genvlm.data.readers import DocumentFile, VideoFile
    from genvlm.generation.infill import GappedSegment
    from genvlm.models.pretrained import PretrainedModel
    from genvlm.tokenization.document import Segment, Video


def read_prompts(
    arguments: argparse.Namespace, pretrained: "PretrainedModel"
) -> "list[list[GappedSegment]]":
    """Prompts of `genvlm generate`: --prompt, with what is retrieved for it, or --document."""
    from genvlm.data.readers import read_documents
    from genvlm.tokenization.document import Text

    if arguments.prompt is None:
        files = read_documents(arguments.document, prompts=True)
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
    """Segments of a document file, its pictures and videos encoded."""
    from genvlm.data.images import load_image, load_mask
    from genvlm.data.readers import VideoFile
    from genvlm.generation.infill import MissingImage, MissingText, masked_image
    from genvlm.tokenization.document import Image, Text

    segments: list[GappedSegment] = []
    for part in document.segments:
        if isinstance(part, str):
            segments.append(Text(part))
        elif isinstance(part, Path):
            segments.append(Image(pretrained.encode_images([load_fitted(part, pretrained)])[0]))
        elif isinstance(part, VideoFile):
            segments.append(_video(part, pretrained))
        elif part.image is not None and part.mask is not None:
            mask = load_mask(part.mask)
            segments.append(masked_image(pretrained, load_image(part.image), mask).segment)
        else:
            segments.append(MissingText() if part.kind == "text" else MissingImage())
    return segments


def _video(file: "VideoFile", pretrained: "PretrainedModel") -> "Video":
    """Raises VideoError for a length that does not fit the tokenizer or the model's context."""
    from genvlm.data.first_frames import read_first_frames
    from genvlm.models.pretrained import find_video_tokenizer
    from genvlm.tokenization.document import Video
    from genvlm.tokenization.windows import frames_that_fit

    config = find_video_tokenizer(pretrained).config
    length, size = pretrained.model.config.context_length, pretrained.grammar.codes_per_image
    most = config.num_frames(max(1, frames_that_fit(length, 0, size)))
    if (file.num_frames or 0) > most:  # said before so many are read
        raise VideoError(
            f'"frames": {file.num_frames} of {file.path} is more than the {most} that the context '
            f"of {length} tokens holds: ask for {most}, or fewer"
        )
    frames = read_first_frames(
        file.path, config.image.resolution, max_frames=file.num_frames or most + 1
    ).frames
    if len(frames) > most:
        raise VideoError(
            f"{file.path} has more than the {most} frames that the context of {length} tokens "
            f'holds: add "frames": {most} to the segment, or fewer'
        )
    if len(frames) < (file.num_frames or 0):
        raise VideoError(f"{file.path} has {len(frames)} frames, and {file.num_frames} are wanted")
    whole = 1 + (len(frames) - 1) // config.frames_per_latent * config.frames_per_latent
    if whole != len(frames):
        raise VideoError(
            f"{file.path} gives {len(frames)} frames, and this model takes 1 + "
            f'{config.frames_per_latent} k: write "frames": {whole} in the segment'
        )
    return Video(pretrained.encode_video(frames))


def has_gap(segments: "list[GappedSegment]") -> bool:
    """Whether something is missing."""
    from genvlm.generation.infill import MaskedImage, MissingImage, MissingText

    return any(isinstance(s, MissingText | MissingImage | MaskedImage) for s in segments)

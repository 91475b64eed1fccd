"""Model folders: everything that `--model FOLDER` needs, self-contained, without pickles.

config.yaml, model.safetensors, tokenizers/ (text and image, and video where it has one),
manifest.json (sha256 of every file), README.md (the card).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Int, UInt8
from pydantic import Field
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.schema import dump_config, parse_config, strict, to_plain
from genvlm.config.syntax import SyntaxConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.build import build_transformer
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.models.model_folder import (
    CARD,
    CONFIG,
    WEIGHTS,
    check_part,
    publish_model_folder,
    read_model_config,
)
from genvlm.nn.devices import move_to
from genvlm.nn.safetensors_folder import (
    fingerprint_of,
    fingerprint_tensors,
    load_into,
    load_tensors,
    save_tensors,
)
from genvlm.tokenization.grammar import Grammar
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer
from genvlm.tokenization.text import TextTokenizer, load_text_tokenizer
from genvlm.tokenization.video import VideoTokenizer, load_video_tokenizer
from genvlm.tokenization.vocabulary import Codebook, Vocabulary

_SCHEMA = 3
_TOKENIZERS = "tokenizers"


@strict
@dataclass(frozen=True, kw_only=True)
class ModelFolderConfig:
    """`config.yaml` of a model folder."""

    schema_version: int
    model: TransformerConfig
    condition_dropout: float
    """What it was trained with; without it, p(image) and p(text) were never learned."""
    syntax: SyntaxConfig = field(default_factory=SyntaxConfig)
    vocabulary: str
    """Fingerprint of the table of ids."""
    text_tokenizer: str
    """Fingerprint."""
    image_tokenizer: str
    """Fingerprint."""
    # Left out where there is none: such folders stay what they were, and older genvlms read them.
    video_tokenizer: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    """Fingerprint; None: a model without video."""
    text_only: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Whether its documents held no picture and no video."""


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A transformer with the tokenizers it was trained on."""

    model: MixedModalTransformer
    text_tokenizer: TextTokenizer
    image_tokenizer: ImageTokenizer
    condition_dropout: float
    syntax: SyntaxConfig = field(default_factory=SyntaxConfig)
    video_tokenizer: VideoTokenizer | None = None
    """None: its documents hold no videos."""
    text_only: bool = False
    """Whether its documents held no picture and no video: codes mean nothing to it."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The table of token ids."""
        return build_vocabulary(
            self.text_tokenizer, self.image_tokenizer, self.syntax, self.video_tokenizer
        )

    @cached_property
    def grammar(self) -> Grammar:
        """The syntax of its documents."""
        return Grammar(self.vocabulary, self.image_tokenizer.grid)

    def fit_image(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """A picture as the model's image tokenizer takes it."""
        return self.image_tokenizer.fit(image, self.syntax.max_side)

    def encode_images(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> Sequence[Int[np.ndarray, "rows columns"]]:
        """Codes of pictures of any size, in the layout that the model was trained on.

        Raises:
            ConfigError: it was trained on texts alone.
        """
        check_visual(self)
        if self.syntax.max_side:
            return self.image_tokenizer.encode_sized(images, self.syntax.max_side)
        return self.image_tokenizer.encode(images)

    def encode_video(
        self, frames: UInt8[np.ndarray, "frames height width 3"]
    ) -> Int[np.ndarray, "latents rows columns"]:
        """Codes of a clip of any size and of 1 + r k frames: 1 + k latent frames.

        Raises:
            ConfigError: a model without a video tokenizer.
            VideoError: a number of frames that does not fit r.
        """
        return find_video_tokenizer(self).encode([frames])[0]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of canonical JSON: weights, configuration, vocabulary, tokenizers. No paths."""
        payload: dict[str, object] = {
            "schema": _SCHEMA,
            "weights": fingerprint_tensors(self.model.state_dict()),
            "model": to_plain(self.model.config),
            "vocabulary": self.vocabulary.fingerprint_payload(),
            "text_tokenizer": self.text_tokenizer.fingerprint,
            "image_tokenizer": self.image_tokenizer.fingerprint,
        }
        if self.video_tokenizer is not None:
            payload["video_tokenizer"] = self.video_tokenizer.fingerprint
        return fingerprint_of(payload)


def check_visual(pretrained: PretrainedModel) -> None:
    """Raises ConfigError: it was trained on texts alone, and codes mean nothing to it."""
    if pretrained.text_only:
        raise ConfigError(
            "this model was trained on texts alone and neither reads nor draws pictures: use one "
            "that was trained on documents with pictures, or train a projector onto this one"
        )


def find_video_tokenizer(pretrained: PretrainedModel) -> VideoTokenizer:
    """The model's own. Raises ConfigError: it was trained without one, or on texts alone."""
    check_visual(pretrained)
    if pretrained.video_tokenizer is None:
        raise ConfigError(
            "this model has no video tokenizer: use one that was trained with `tokenizers.video`"
        )
    return pretrained.video_tokenizer


def build_vocabulary(
    text: TextTokenizer,
    image: ImageTokenizer,
    syntax: SyntaxConfig | None = None,
    video: VideoTokenizer | None = None,
) -> Vocabulary:
    """The vocabulary of tokenizers, with the ids that a syntax asks for.

    Raises:
        ConfigError: the grids of image and video tokenizer differ.
    """
    syntax = syntax or SyntaxConfig()
    codebook = Codebook(image.config.codebook_size, image.codebook_fingerprint)
    of_video = None
    if video is not None:
        if video.grid != image.grid:
            both = ["x".join(map(str, grid)) for grid in (video.grid, image.grid)]
            raise ConfigError(
                f"the video tokenizer makes {both[0]} codes of a frame, and the image tokenizer "
                f"{both[1]} of a picture: choose two of one grid"
            )
        of_video = Codebook(video.config.image.codebook_size, video.codebook_fingerprint)
    return _vocabulary(text.size, codebook, of_video, image.config, syntax)


def codebooks_of(image: ImageTokenizer, video: VideoTokenizer | None = None) -> list[Tensor]:
    """What the first ids of the vocabulary stand for: image codes, and video codes of their own."""
    if video is None or video.codebook_fingerprint == image.codebook_fingerprint:
        return [image.codebook]
    return [image.codebook, video.codebook]


def vocabulary_size(
    text_size: int,
    num_codes: int,
    image: VQGANConfig,
    syntax: SyntaxConfig,
    num_video_codes: int = 0,
) -> int:
    """How many ids the vocabulary has, before tokenizers are built.

    Args:
        num_video_codes: of a video tokenizer that does not share the image tokenizer's codebook.
    """
    video = Codebook(num_video_codes, "of its own") if num_video_codes else None
    return _vocabulary(text_size, Codebook(num_codes, ""), video, image, syntax).size


def _vocabulary(
    text_size: int,
    codebook: Codebook,
    video: Codebook | None,
    image: VQGANConfig,
    syntax: SyntaxConfig,
) -> Vocabulary:
    counting = syntax.max_side or (image.grid_size if syntax.num_gaps else 0)
    return Vocabulary(
        image=codebook,
        video=video,
        text_size=text_size,
        num_gaps=syntax.num_gaps,
        num_numbers=counting,
        sized_images=syntax.max_side > 0,
    )


def save_pretrained(
    pretrained: PretrainedModel,
    folder: Path,
    card: str,
    *,
    also: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a model folder, which appears whole or not at all; an earlier one is replaced.

    Args:
        also: writes more files into the folder that it is given.
    """

    def write(temporary: Path) -> None:
        _write_folder(pretrained, temporary, card)
        also(temporary)

    publish_model_folder(folder, write)


def _write_folder(pretrained: PretrainedModel, folder: Path, card: str) -> None:
    tokenizers = folder / _TOKENIZERS
    tokenizers.mkdir()
    video = pretrained.video_tokenizer
    config = ModelFolderConfig(
        schema_version=_SCHEMA,
        model=pretrained.model.config,
        condition_dropout=pretrained.condition_dropout,
        syntax=pretrained.syntax,
        vocabulary=fingerprint_of(pretrained.vocabulary.fingerprint_payload()),
        text_tokenizer=pretrained.text_tokenizer.fingerprint,
        image_tokenizer=pretrained.image_tokenizer.fingerprint,
        video_tokenizer=video.fingerprint if video is not None else None,
        text_only=pretrained.text_only,
    )
    pretrained.text_tokenizer.save(tokenizers)
    pretrained.image_tokenizer.save(tokenizers)
    if video is not None:
        video.save(tokenizers)
    save_tensors(pretrained.model.state_dict(), folder / WEIGHTS)
    (folder / CONFIG).write_text(dump_config(config))
    (folder / CARD).write_text(card)


def load_pretrained(folder: Path, *, device: str = "cpu") -> PretrainedModel:
    """Read a model folder; its transformer computes on `device`, its tokenizers on the CPU.

    Raises:
        ConfigError: no such device.
        CheckpointError: not a model folder, a file missing or altered, tokenizers of another model.
    """
    content = read_model_config(folder, None, _SCHEMA)
    config = parse_config(ModelFolderConfig, content, str(folder / CONFIG))
    text = load_text_tokenizer(folder / _TOKENIZERS)
    image = load_image_tokenizer(folder / _TOKENIZERS)
    has_video = config.video_tokenizer is not None
    video = load_video_tokenizer(folder / _TOKENIZERS) if has_video else None
    check_part(folder, "text tokenizer", text.fingerprint, config.text_tokenizer)
    check_part(folder, "image tokenizer", image.fingerprint, config.image_tokenizer)
    if video is not None:
        check_part(folder, "video tokenizer", video.fingerprint, config.video_tokenizer)
    vocabulary = build_vocabulary(text, image, config.syntax, video)
    if fingerprint_of(vocabulary.fingerprint_payload()) != config.vocabulary:
        raise CheckpointError(
            f"{folder} was written with another layout of token ids: use the genvlm that wrote it"
        )
    model = build_transformer(config.model, vocabulary.size)
    load_into(model, load_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return PretrainedModel(
        model=move_to(model.eval().requires_grad_(False), device),
        text_tokenizer=text,
        image_tokenizer=image,
        condition_dropout=config.condition_dropout,
        syntax=config.syntax,
        video_tokenizer=video,
        text_only=config.text_only,
    )

"""Model folders: everything that `--model FOLDER` needs, self-contained, without pickles.

config.yaml, model.safetensors, tokenizers/ (text and image), manifest.json (sha256 of every file),
README.md (the card).
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from genvlm.config.schema import dump_config, parse_config, read_yaml, strict, to_plain
from genvlm.config.syntax import SyntaxConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import CheckpointError
from genvlm.models.build import build_transformer
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.nn.devices import move_to
from genvlm.nn.safetensors_folder import (
    fingerprint_of,
    fingerprint_tensors,
    load_into,
    load_tensors,
    save_tensors,
)
from genvlm.nn.whole_files import hash_file, publish_folder
from genvlm.tokenization.grammar import Grammar
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer
from genvlm.tokenization.text import TextTokenizer, load_text_tokenizer
from genvlm.tokenization.vocabulary import Codebook, Vocabulary

_SCHEMA = 3
_CONFIG, _WEIGHTS, _TOKENIZERS, _MANIFEST = (
    "config.yaml", "model.safetensors", "tokenizers", "manifest.json",
)  # fmt: skip


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


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A transformer with the tokenizers it was trained on."""

    model: MixedModalTransformer
    text_tokenizer: TextTokenizer
    image_tokenizer: ImageTokenizer
    condition_dropout: float
    syntax: SyntaxConfig = field(default_factory=SyntaxConfig)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The table of token ids."""
        return build_vocabulary(self.text_tokenizer, self.image_tokenizer, self.syntax)

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
        """Codes of pictures of any size, in the layout that the model was trained on."""
        if self.syntax.max_side:
            return self.image_tokenizer.encode_sized(images, self.syntax.max_side)
        return self.image_tokenizer.encode(images)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of canonical JSON: weights, configuration, vocabulary, tokenizers. No paths."""
        payload = {
            "schema": _SCHEMA,
            "weights": fingerprint_tensors(self.model.state_dict()),
            "model": to_plain(self.model.config),
            "vocabulary": self.vocabulary.fingerprint_payload(),
            "text_tokenizer": self.text_tokenizer.fingerprint,
            "image_tokenizer": self.image_tokenizer.fingerprint,
        }
        return fingerprint_of(payload)


def build_vocabulary(
    text: TextTokenizer, image: ImageTokenizer, syntax: SyntaxConfig | None = None
) -> Vocabulary:
    """The vocabulary of a pair of tokenizers, with the ids that a syntax asks for."""
    syntax = syntax or SyntaxConfig()
    codebook = Codebook(image.config.codebook_size, image.codebook_fingerprint)
    counting = syntax.max_side or (max(image.grid) if syntax.num_gaps else 0)
    return Vocabulary(
        image=codebook,
        text_size=text.size,
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
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write_folder(pretrained, temporary, card, also)
        publish_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_folder(
    pretrained: PretrainedModel, folder: Path, card: str, also: Callable[[Path], None]
) -> None:
    tokenizers = folder / _TOKENIZERS
    tokenizers.mkdir(parents=True)
    config = ModelFolderConfig(
        schema_version=_SCHEMA,
        model=pretrained.model.config,
        condition_dropout=pretrained.condition_dropout,
        syntax=pretrained.syntax,
        vocabulary=fingerprint_of(pretrained.vocabulary.fingerprint_payload()),
        text_tokenizer=pretrained.text_tokenizer.fingerprint,
        image_tokenizer=pretrained.image_tokenizer.fingerprint,
    )
    pretrained.text_tokenizer.save(tokenizers)
    pretrained.image_tokenizer.save(tokenizers)
    save_tensors(pretrained.model.state_dict(), folder / _WEIGHTS)
    (folder / _CONFIG).write_text(dump_config(config))
    (folder / "README.md").write_text(card)
    also(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest = {str(p.relative_to(folder)): hash_file(p) for p in files}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def is_finished(folder: Path) -> bool:
    """Whether a model folder has been written to its end."""
    return (folder / _MANIFEST).is_file()


def load_pretrained(folder: Path, *, device: str = "cpu") -> PretrainedModel:
    """Read a model folder; its transformer computes on `device`, its tokenizers on the CPU.

    Raises:
        ConfigError: no such device.
        CheckpointError: not a model folder, a file missing or altered, tokenizers of another model.
    """
    verify_folder(folder)
    content = read_yaml(folder / _CONFIG)
    if content.get("schema_version") != _SCHEMA:
        raise CheckpointError(
            f"{folder} has schema {content.get('schema_version')}; this genvlm reads {_SCHEMA}: "
            f"use the version that wrote it"
        )
    config = parse_config(ModelFolderConfig, content, str(folder / _CONFIG))
    text = load_text_tokenizer(folder / _TOKENIZERS)
    image = load_image_tokenizer(folder / _TOKENIZERS)
    for kind, found, expected in (
        ("text", text.fingerprint, config.text_tokenizer),
        ("image", image.fingerprint, config.image_tokenizer),
    ):
        if found != expected:
            raise CheckpointError(
                f"the {kind} tokenizer in {folder} is not the one the model was trained with "
                f"(fingerprint {found[:12]}, expected {expected[:12]}): copy the folder again"
            )
    vocabulary = build_vocabulary(text, image, config.syntax)
    if fingerprint_of(vocabulary.fingerprint_payload()) != config.vocabulary:
        raise CheckpointError(
            f"{folder} was written with another layout of token ids: use the genvlm that wrote it"
        )
    model = build_transformer(config.model, vocabulary.size)
    load_into(model, load_tensors(folder / _WEIGHTS), str(folder / _WEIGHTS))
    return PretrainedModel(
        model=move_to(model.eval().requires_grad_(False), device),
        text_tokenizer=text,
        image_tokenizer=image,
        condition_dropout=config.condition_dropout,
        syntax=config.syntax,
    )


def verify_folder(folder: Path) -> list[str]:
    """The files of a model folder, relative. Raises CheckpointError unless each has its hash."""
    if not folder.is_dir():
        raise CheckpointError(f"no model folder at {folder}: check --model")
    try:
        manifest = dict(json.loads((folder / _MANIFEST).read_text()).items())
        if not {_CONFIG, _WEIGHTS} <= manifest.keys():
            raise ValueError
    except (OSError, ValueError, AttributeError):
        inside = folder / "model"
        hint = f"; did you mean {inside}?" if is_finished(inside) else ""
        raise CheckpointError(
            f"{folder} is not a finished model folder: it has no readable {_MANIFEST}{hint}"
        ) from None
    for name, expected in manifest.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise CheckpointError(f"{folder} lacks {name}: copy the model folder again")
        if hash_file(path) != expected:
            raise CheckpointError(f"{path} was altered or damaged: copy the model folder again")
    return list(manifest)

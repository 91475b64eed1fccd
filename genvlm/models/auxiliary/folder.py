"""Folders of models that read pictures and texts: self-contained, without pickles.

config.yaml, model.safetensors (what was trained), tokenizers/ (of text), image_encoder/ and
text_encoder/ (frozen ones, copied), manifest.json (sha256 of every file), README.md (the card).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from genvlm.config.coca import CaptionDecoderConfig
from genvlm.config.image_encoder import ForeignPatchesConfig, VQPatchesConfig
from genvlm.config.schema import dump_config, parse_config, to_plain
from genvlm.config.text_encoder import FrozenTextEncoderConfig, SmallTextEncoderConfig
from genvlm.errors import CheckpointError
from genvlm.models.model_folder import (
    CARD,
    CONFIG,
    WEIGHTS,
    check_whole,
    is_of_kind,
    publish_model_folder,
    read_model_config,
)
from genvlm.models.patches import build_patches
from genvlm.models.text_encoder import ForeignCoder, PieceCoder, TextCoder
from genvlm.nn.frozen import Frozen
from genvlm.nn.safetensors_folder import (
    fingerprint_of,
    fingerprint_tensors,
    load_into,
    load_tensors,
    save_tensors,
)

SCHEMA = 1
_TOKENIZERS, _TEXT_ENCODER, _IMAGE_ENCODER = "tokenizers", "text_encoder", "image_encoder"
_HEADER = ("kind", "schema_version", "fingerprint", "model")

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


class Built(NamedTuple, Generic[Network]):
    """A network with what its inputs are made of."""

    network: Network
    texts: TextCoder
    side: int
    """Of the square pictures that it reads, in pixels."""


@dataclass(frozen=True)
class Family(Generic[Config, Network]):
    """A kind of model: what its folders say, and how its network comes from a configuration."""

    kind: str
    config: type[Config]
    build: Callable[[Config, int], Built[Network]]
    """From a configuration and a seed."""

    def owns(self, folder: Path) -> bool:
        """Whether this is, or was to be, a folder of this kind."""
        return is_of_kind(folder, self.kind)

    def fingerprint(self, config: Config, built: Built[Network]) -> str:
        """sha256 over weights, configuration and text coder. No paths."""
        return fingerprint_of(
            {
                "schema": SCHEMA,
                "kind": self.kind,
                "weights": fingerprint_tensors(built.network.state_dict()),
                "config": to_plain(_in_folder(config)),
                "texts": built.texts.fingerprint,
            }
        )

    def restore(self, config: Config, weights: Mapping[str, Tensor], source: str) -> Built[Network]:
        """The network with trained weights, in eval mode and without gradients.

        Frozen encoders stay as they are read, whatever `weights` holds of them.

        Raises:
            CheckpointError: the weights are of another configuration; `source` names them.
        """
        built = self.build(config, 0)
        frozen = frozen_state(built.network)
        trained = {name: t for name, t in weights.items() if name not in frozen}
        load_into(built.network, {**trained, **frozen}, source)
        built.network.eval().requires_grad_(False)
        return built

    def save(self, config: Config, built: Built[Network], folder: Path, card: str) -> None:
        """Write a folder, which appears whole or not at all; an earlier one is replaced."""
        publish_model_folder(folder, lambda temporary: self._write(config, built, temporary, card))

    def _write(self, config: Config, built: Built[Network], folder: Path, card: str) -> None:
        written = (self.kind, SCHEMA, self.fingerprint(config, built), to_plain(_in_folder(config)))
        if isinstance(built.texts, PieceCoder):
            (folder / _TOKENIZERS).mkdir()
            built.texts.tokenizer.save(folder / _TOKENIZERS)
        if isinstance(built.texts, ForeignCoder):
            built.texts.save(folder / _TEXT_ENCODER)
        for _, part in _parts(config):
            if isinstance(part, ForeignPatchesConfig | VQPatchesConfig):
                build_patches(part).save(folder / _IMAGE_ENCODER)
        save_tensors(trained_state(built.network), folder / WEIGHTS)
        (folder / CONFIG).write_text(dump_config(dict(zip(_HEADER, written, strict=True))))
        (folder / CARD).write_text(card)

    def load(self, folder: Path) -> tuple[Config, Built[Network]]:
        """Read a folder.

        Raises:
            CheckpointError: no folder of this kind, a file missing or altered, parts of another
                model.
        """
        content = read_model_config(folder, self.kind, SCHEMA)
        if sorted(content) != sorted(_HEADER):
            raise CheckpointError(f"{folder / CONFIG} is damaged: copy the folder again")
        written = parse_config(self.config, content["model"], str(folder / CONFIG))
        config = _in_folder(written, f"{folder.resolve()}/")
        built = self.restore(config, load_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
        check_whole(folder, self.fingerprint(config, built), str(content["fingerprint"]))
        return config, built


def frozen_state(network: nn.Module) -> dict[str, Tensor]:
    """Weights of the encoders of other people, which nothing trains."""
    frozen = tuple(
        f"{name}." for name, module in network.named_modules() if isinstance(module, Frozen)
    )
    return {n: t for n, t in network.state_dict().items() if n.startswith(frozen)}


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """All other weights."""
    frozen = frozen_state(network)
    return {name: t for name, t in network.state_dict().items() if name not in frozen}


def _parts(config: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(config, field.name)) for field in fields(config)]


def _in_folder(config: Config, root: str = "") -> Config:
    """The configuration with its parts where a model folder has them, behind `root`."""
    changed: dict[str, Any] = {}
    for name, part in _parts(config):
        if isinstance(part, ForeignPatchesConfig | VQPatchesConfig):
            changed[name] = replace(part, path=root + _IMAGE_ENCODER)
        elif isinstance(part, FrozenTextEncoderConfig):
            changed[name] = replace(part, path=root + _TEXT_ENCODER)
        elif isinstance(part, SmallTextEncoderConfig | CaptionDecoderConfig):
            changed[name] = replace(part, tokenizer=root + _TOKENIZERS)
    moved: Config = replace(config, **changed)  # type: ignore[type-var]
    return moved

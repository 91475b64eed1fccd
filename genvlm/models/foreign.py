"""Parts of other people: folders that diffusers and transformers wrote, from this machine alone.

Nothing is downloaded, no code of a folder runs, and weights are read from safetensors only.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError

from genvlm.errors import CheckpointError, ConfigError
from genvlm.nn.whole_files import hash_file

_COPIED = (".json", ".safetensors", ".txt", ".model")
_OF_TOKENIZERS = (
    "added_tokens.json", "merges.txt", "special_tokens_map.json", "spiece.model", "tokenizer.json",
    "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
)  # fmt: skip


def import_diffusers() -> ModuleType:
    """diffusers, silenced. Raises ConfigError: not installed."""
    return _imported("diffusers")


def import_transformers() -> ModuleType:
    """transformers, silenced. Raises ConfigError: not installed."""
    return _imported("transformers")


def _imported(name: str) -> ModuleType:
    try:
        # Where DeepSpeed is installed, what this imports writes to standard output.
        with redirect_stdout(sys.stderr):
            if name == "diffusers":
                import diffusers as library
                from diffusers.utils import logging
            else:
                import transformers as library
                from transformers.utils import logging
    except ImportError:
        raise ConfigError(f"this model needs {name}: pip install 'genvlm[diffusion]'") from None
    logging.disable_progress_bar()
    module: ModuleType = library
    return module


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A configuration of a part.

    Raises:
        CheckpointError: missing, unreadable, or of a model that brings code of its own.
    """
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(
            f"{path} cannot be read: give a local folder as save_pretrained writes it"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    if "auto_map" in content:
        raise CheckpointError(
            f"{path} names code of its own (auto_map), and no code of a folder runs here: use a "
            "model that the library itself knows"
        )
    return content


def load_part(cls: Any, folder: Path) -> Any:
    """A model of diffusers or transformers in float32, in eval mode, without gradients.

    Raises:
        CheckpointError: unreadable, no safetensors, or tensors of it are missing.
    """
    try:
        with redirect_stdout(sys.stderr):
            model, found = cls.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except (
        OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{folder} holds no {cls.__name__} that can be read here ({said}): give a local folder "
            "with config.json and safetensors"
        ) from None
    if lacking := sorted(found["missing_keys"]):
        # The library would go on with random numbers in their place.
        raise CheckpointError(
            f"{folder} lacks {len(lacking)} tensors of its model, first {lacking[0]}: copy the "
            "folder again"
        )
    return model.float().eval().requires_grad_(False)


def load_tokenizer(cls: Any, folder: Path) -> Any:
    """A tokenizer of transformers; nothing is downloaded, no code of the folder runs.

    Raises:
        CheckpointError: no tokenizer that can be read.
    """
    try:
        return cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{folder} holds no tokenizer that can be read here ({said}): copy its files from the "
            "release"
        ) from None


def copy_part(folders: tuple[Path, ...], target: Path) -> None:
    """Copy a part's configuration, weights and tokenizer files; nothing else of the folders."""
    target.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix in _COPIED:
                shutil.copyfile(path, target / path.name)


def fingerprint_tokenizer_files(folder: Path) -> str:
    """sha256 over names and contents of the files that a tokenizer of transformers reads."""
    names = [name for name in _OF_TOKENIZERS if (folder / name).is_file()]
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}|{hash_file(folder / name)}|".encode())
    return digest.hexdigest()


def meant(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of a library without names of places and versions."""
    said = ("_name_or_path", "_class_name", "_diffusers_version", "transformers_version")
    return {key: value for key, value in config.items() if key not in said}

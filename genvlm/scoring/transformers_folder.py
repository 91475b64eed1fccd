"""Models of other people: folders that transformers wrote, read from this machine alone.

Nothing is downloaded, no code of the folder runs, and weights are read from safetensors only.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from genvlm.errors import CheckpointError, ConfigError, TokenError
from genvlm.nn.devices import move_to
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors

Kind = Literal["contrastive", "image_text_to_text"]
DType = Literal["float32", "bfloat16", "float16", "float64"]

# Of a configuration, what says where and by whom it was written, and not what the model computes.
_NOT_MEANT = ("_name_or_path", "transformers_version", "architectures", "dtype")


@dataclass(frozen=True)
class ForeignModel:
    """A model of transformers with its processor, ready to score."""

    model: Any
    processor: Any
    settings: Mapping[str, object]
    """What of it enters a scorer's fingerprint: weights, configuration, tokenizer, dtype, how
    pictures and prompts are prepared. Never a path or a device."""

    @property
    def text_context(self) -> int | None:
        """Tokens that the text half or the language model can read; None: no limit is known."""
        text = self.model.config.get_text_config()
        limits = [getattr(text, "max_position_embeddings", None)]
        # A tokenizer counts no picture, so that its limit says little of one that reads both.
        if limits == [None] or self.settings["kind"] == "contrastive":
            limits.append(self.processor.tokenizer.model_max_length)
        return min((n for n in limits if isinstance(n, int) and n < 10**9), default=None)

    def check_text(self, item_id: str, text: str) -> None:
        """Raises TokenError: the text spells a control token, which the tokenizer would obey.

        A caption that holds `<image>` or `</s>` would be read as a picture, or as an end.
        """
        control = [*self.processor.tokenizer.all_special_tokens, self.image_token or ""]
        if spelled := [token for token in control if token and token in text]:
            raise TokenError(
                f"item {item_id!r}: {text[:60]!r} spells the model's control token {spelled[0]!r}: "
                "write it otherwise or leave the item out"
            )

    @property
    def image_token(self) -> str | None:
        """What stands for a picture in a text."""
        token = getattr(self.processor, "image_token", None)
        return None if token is None else str(token)


def load_foreign(
    folder: str | Path, kind: Kind, *, dtype: DType = "float32", device: str = "cpu"
) -> ForeignModel:
    """Load weights, tokenizer and image processor.

    Args:
        folder: as `save_pretrained` writes it, or the name of a model in transformers' cache.

    Raises:
        CheckpointError: not there, incomplete, no safetensors, or it needs code of its own.
        ConfigError: transformers is not installed, the model is of another kind or reads texts
            with an encoder of their own, no such device.
    """
    # Where DeepSpeed is installed, what this imports writes to standard output.
    with redirect_stdout(sys.stderr):
        return _load(folder, kind, dtype, device)


def _load(folder: str | Path, kind: Kind, dtype: DType, device: str) -> ForeignModel:
    transformers = import_transformers()
    name = "AutoModel" if kind == "contrastive" else "AutoModelForImageTextToText"
    check_kind(folder, kind)
    closed = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, found = getattr(transformers, name).from_pretrained(
            folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **closed
        )
        processor = transformers.AutoProcessor.from_pretrained(folder, **closed)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise _unreadable(folder, error) from None
    if lacking := sorted(found["missing_keys"]):
        # transformers would go on with random numbers in their place.
        raise CheckpointError(
            f"{folder} lacks {len(lacking)} tensors of its model, first {lacking[0]}: "
            "copy the folder again"
        )
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{folder} lacks an image processor or a tokenizer: copy preprocessor_config.json, "
            "tokenizer.json and tokenizer_config.json from the release"
        )
    if kind == "image_text_to_text" and model.config.is_encoder_decoder:
        raise ConfigError(
            f"{folder} reads its prompt with an encoder and writes with a decoder "
            f"({model.config.model_type}): only models that do both with one decoder are supported"
        )
    settings = {"kind": kind, **_settings(model, processor, dtype)}
    model = move_to(model, device)
    return ForeignModel(model.eval().requires_grad_(False), processor, settings)


def is_foreign(folder: str | Path) -> bool:
    """Whether this is a folder of transformers, or a name that stands in its cache."""
    if Path(folder).is_dir():
        return (Path(folder) / "config.json").is_file() and not (
            Path(folder) / "config.yaml"
        ).is_file()
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return False
    try:
        return isinstance(try_to_load_from_cache(str(folder), "config.json"), str)
    except HFValidationError:  # no name of a model, such as a path
        return False


def kind_of(folder: str | Path) -> Kind:
    """What a folder holds. Raises CheckpointError: unreadable; ConfigError: neither kind."""
    import_transformers()
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto as known

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from None
    if config.model_type in known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return "image_text_to_text"
    if config.model_type in known.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return "contrastive"
    raise ConfigError(
        f"{folder} holds a model of type {config.model_type!r}, which transformers knows neither "
        "as a pair of image and text encoders (such as CLIP) nor as a model from images and text "
        "to text (such as Llava)"
    )


def check_kind(folder: str | Path, kind: Kind) -> None:
    """Raises ConfigError unless the folder holds this kind of model."""
    if (found := kind_of(folder)) != kind:
        raise ConfigError(f"{folder} holds a model of kind {found}, and {kind} is needed here")


def import_transformers() -> Any:
    """transformers, silenced. Raises ConfigError: not installed."""
    try:
        import transformers
        from transformers.utils import logging
    except ImportError:
        raise ConfigError(
            "models in transformers' layout need transformers: pip install 'genvlm[transformers]'"
        ) from None
    logging.disable_progress_bar()
    return transformers


def _settings(model: Any, processor: Any, dtype: str) -> dict[str, object]:
    config = model.config.to_diff_dict()
    tokenizer = processor.tokenizer
    return {
        "model": fingerprint_of(
            {
                "weights": fingerprint_tensors(model.state_dict()),
                "config": _meant(config),
                "tokenizer": _tokenizer_payload(tokenizer),
            }
        ),
        "model_type": config["model_type"],
        "preprocessing": fingerprint_of(_meant(processor.image_processor.to_dict())),
        "chat_template": processor.chat_template,
        "dtype": dtype,
    }


def _tokenizer_payload(tokenizer: Any) -> object:
    """Its rules and tokens, without what the last call asked of it (padding, truncation)."""
    special = {k: str(v) for k, v in tokenizer.special_tokens_map.items()}
    if not tokenizer.is_fast:
        return {"vocabulary": tokenizer.get_vocab(), "special": special}
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return {**rules, "padding": None, "truncation": None, "special": special}


def _meant(content: Any) -> Any:
    """A configuration without names of places and versions, as plain JSON."""
    if isinstance(content, Mapping):
        return {str(k): _meant(v) for k, v in content.items() if k not in _NOT_MEANT}
    if isinstance(content, list | tuple):
        return [_meant(v) for v in content]
    return content if isinstance(content, str | int | float | bool | None) else str(content)


def _unreadable(folder: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{folder} is no model of transformers that can be read here "
        f"({_first_line(error)}): give a local folder with config.json, safetensors and the "
        "processor's files; nothing is downloaded and no code of a folder runs"
    )


def _first_line(error: Exception) -> str:
    said = (line.strip() for line in str(error).splitlines() if line.strip())
    return next(said, type(error).__name__)[:200]

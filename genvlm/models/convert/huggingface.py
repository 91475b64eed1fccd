"""Chameleon as Hugging Face keeps it: `config.json`, sharded safetensors, `tokenizer.json`.

transformers' port masks the logits of all image codes and ships no decoder: a folder exported here
loads there, and can neither draw nor score pictures in it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.convert.chameleon import ChameleonCheckpoint
from genvlm.nn.foreign_tensors import read_sharded, write_sharded
from genvlm.nn.safetensors_folder import load_into
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.vqgan import VQGAN

_NAMES = (
    (r"model\.embed_tokens\.weight", "embedding.weight"),
    (r"model\.norm\.weight", "norm.weight"),
    (r"lm_head\.weight", "head.proj.weight"),
    (r"model\.layers\.(\d+)\.self_attn\.(.+)", r"blocks.\1.attention.\2"),
    (r"model\.layers\.(\d+)\.mlp\.(.+)", r"blocks.\1.mlp.\2"),
    (r"model\.layers\.(\d+)\.input_layernorm\.weight", r"blocks.\1.attention_norm.weight"),
    (r"model\.layers\.(\d+)\.post_attention_layernorm\.weight", r"blocks.\1.mlp_norm.weight"),
)
_VQ = "model.vqmodel."
_SMALL_FILES = ("*.json", "*.jinja", "*.txt", "README.md")
_MAX_SMALL_FILE = 64_000_000
_SHARD_BYTES = 5_000_000_000
_RESERVED, _IMAGE = "<reserved08707>", "<image>"
_HEAD_NORM = re.compile(r"[qk]_norm\.(weight|bias)$")


def is_huggingface(folder: Path) -> bool:
    """Whether a folder holds a Chameleon of Hugging Face."""
    path = folder / "config.json"
    return path.is_file() and _read_json(path).get("model_type") == "chameleon"


def read_huggingface(folder: Path) -> ChameleonCheckpoint:
    """Everything of a folder in Hugging Face's layout.

    Raises:
        CheckpointError: files are missing, damaged or do not fit `config.json`; options that this
            port does not have.
    """
    config = _read_json(folder / "config.json")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise CheckpointError(f"{folder} lacks tokenizer.json: copy it from the release")
    tensors = read_sharded(folder)
    rows = tensors.get("model.embed_tokens.weight")
    if rows is not None and len(rows) != config.get("vocab_size"):
        raise CheckpointError(
            f"{folder} has {len(rows)} rows of embedding, and its config.json says vocab_size "
            f"{config.get('vocab_size')}"
        )
    unnamed = [n for n in tensors if not n.startswith(_VQ) and _rename(n) is None]
    if unnamed:
        raise CheckpointError(
            f"{folder} holds {len(unnamed)} tensors that are none of Chameleon, first {unnamed[0]}"
        )
    try:
        shape, image = _transformer_config(config), _image_config(config["vq_config"])
        vocabulary_map = dict(config["vocabulary_map"].items())
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is no Chameleon ({error})") from None
    network = VQGAN(image)
    vq = {n.removeprefix(_VQ): t.float() for n, t in tensors.items() if n.startswith(_VQ)}
    load_into(network, vq, f"{folder} ({_VQ}*)")
    files = {
        str(p.relative_to(folder)): p.read_bytes()
        for pattern in _SMALL_FILES
        for p in sorted(folder.glob(pattern))
        if p.stat().st_size < _MAX_SMALL_FILE and not p.name.endswith(".index.json")
    }
    return ChameleonCheckpoint(
        config=shape,
        tensors={
            name: t for n, t in tensors.items() if (name := _rename(n)) and not n.startswith(_VQ)
        },
        vocabulary_map=vocabulary_map,
        tokenizer_json=tokenizer.read_bytes(),
        num_parts=config.get("model_parallel_size") or 1,
        image_tokenizer=ImageTokenizer(image, network),
        files=files,
        # As stored: the image tokenizer computes in float32 and forgets another dtype.
        extra={n: t for n, t in tensors.items() if n.startswith(_VQ)},
    )


def write_huggingface(checkpoint: ChameleonCheckpoint, folder: Path) -> None:
    """A folder that `ChameleonForConditionalGeneration.from_pretrained` loads."""
    tensors = {}
    for ours, tensor in checkpoint.tensors.items():
        value = tensor
        if _HEAD_NORM.search(ours) and tensor.dim() == 1:
            of_keys = "k_norm" in ours
            heads = checkpoint.config.num_kv_heads if of_keys else checkpoint.config.num_heads
            value = tensor.expand(heads, -1)
        tensors[_foreign_name(ours)] = value
    vq = {n: t for n, t in checkpoint.extra.items() if n.startswith(_VQ)} or {
        _VQ + n: t.to(tensors["lm_head.weight"].dtype)
        for n, t in checkpoint.image_tokenizer.network.state_dict().items()
        if not n.startswith("decoder.")
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_sharded(tensors | vq, folder, max_bytes=_SHARD_BYTES)
    if "config.json" in checkpoint.files:
        for name, content in checkpoint.files.items():
            (folder / name).write_bytes(content)
        return
    checkpoint = _with_image_token(checkpoint)
    (folder / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    (folder / "config.json").write_text(json.dumps(_foreign_config(checkpoint), indent=2))


def _rename(name: str) -> str | None:
    for pattern, ours in _NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    return None


def _foreign_name(ours: str) -> str:
    fixed = {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.proj.weight": "lm_head.weight",
    }
    if ours in fixed:
        return fixed[ours]
    name = ours.replace("blocks.", "model.layers.", 1).replace(".attention.", ".self_attn.")
    name = name.replace(".attention_norm.", ".input_layernorm.")
    return name.replace(".mlp_norm.", ".post_attention_layernorm.")


def _transformer_config(config: Mapping[str, Any]) -> TransformerConfig:
    for option in ("attention_bias", "mlp_bias", "tie_word_embeddings"):
        if config.get(option):
            raise CheckpointError(f"config.json sets {option}, which this port does not have")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise CheckpointError(f"config.json asks for rotary positions {rope_type!r}")
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"config.json asks for {config['hidden_act']!r} instead of silu")
    if not isinstance(config.get("swin_norm", False), bool):
        raise CheckpointError("swin_norm of config.json is neither true nor false")
    heads = config["num_attention_heads"]
    return TransformerConfig(
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config["hidden_size"] // heads,
        intermediate_size=config["intermediate_size"],
        context_length=config["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta", 10_000.0)),
        qk_norm="layer",
        qk_norm_per_head=True,
        norm_order="swin" if config.get("swin_norm") else "pre",
        norm_eps=config["rms_norm_eps"],
    )


def _image_config(vq: Mapping[str, Any]) -> VQGANConfig:
    if vq.get("double_latent") or vq.get("in_channels", 3) != 3:
        raise CheckpointError("vq_config has double_latent or in_channels, which VQGAN does not")
    return VQGANConfig(
        resolution=vq.get("resolution", 512),
        channels=vq.get("base_channels", 128),
        channel_multipliers=tuple(vq.get("channel_multiplier", (1, 1, 2, 2, 4))),
        num_res_blocks=vq.get("num_res_blocks", 2),
        attn_resolutions=tuple(vq.get("attn_resolutions") or ()),
        z_channels=vq.get("latent_channels", 256),
        codebook_size=vq.get("num_embeddings", 8192),
        codebook_dim=vq.get("embed_dim", 256),
        decoder=False,
    )


def _foreign_config(checkpoint: ChameleonCheckpoint) -> dict[str, Any]:
    c, vq = checkpoint.config, checkpoint.image_tokenizer.config
    names = checkpoint.vocabulary_map
    return {
        "architectures": ["ChameleonForConditionalGeneration"],
        "model_type": "chameleon",
        "vocab_size": checkpoint.tensors["embedding.weight"].shape[0],
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "max_position_embeddings": c.context_length,
        "rms_norm_eps": c.norm_eps,
        "rope_parameters": {"rope_theta": c.rope_theta, "rope_type": "default"},
        "swin_norm": c.norm_order == "swin",
        "model_parallel_size": checkpoint.num_parts,
        "tie_word_embeddings": False,
        "bos_token_id": names["<s>"],
        "eos_token_id": names["</s>"],
        "pad_token_id": names["<pad>"],
        "vocabulary_map": dict(names),
        "vq_config": {
            "resolution": vq.resolution,
            "base_channels": vq.channels,
            "channel_multiplier": list(vq.channel_multipliers),
            "num_res_blocks": vq.num_res_blocks,
            "attn_resolutions": list(vq.attn_resolutions) or None,
            "latent_channels": vq.z_channels,
            "num_embeddings": vq.codebook_size,
            "embed_dim": vq.codebook_dim,
        },
    }


def _with_image_token(checkpoint: ChameleonCheckpoint) -> ChameleonCheckpoint:
    """Meta's reserved token as `<image>`, which transformers' processor puts where pictures go."""
    names = dict(checkpoint.vocabulary_map)
    if _RESERVED not in names or _IMAGE in names:
        return checkpoint
    names[_IMAGE] = names.pop(_RESERVED)
    content = json.loads(checkpoint.tokenizer_json)
    vocabulary = content["model"]["vocab"]
    if _RESERVED in vocabulary:
        vocabulary[_IMAGE] = vocabulary.pop(_RESERVED)
    for token in content.get("added_tokens", []):
        if token["content"] == _RESERVED:
            token["content"] = _IMAGE
    return replace(checkpoint, vocabulary_map=names, tokenizer_json=json.dumps(content).encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"{path} is missing or no JSON") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content

"""Chameleon as Meta released it.

    ROOT/models/7b/params.json, consolidate_params.json, consolidated.pth (34B: consolidated.00-03)
    ROOT/tokenizer/text_tokenizer.json, vqgan.ckpt, vqgan.yaml

Rotary pairs are neighbours there (2i, 2i + 1) and halves here (i, i + dim / 2): the rows of queries
and keys change places, and so do weight *and* bias of their norms. A model that was trained in
several parts has a norm of its own in each.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from einops import rearrange
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.schema import read_yaml
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.convert.chameleon import ChameleonCheckpoint
from genvlm.models.convert.vqgan import read_vqgan
from genvlm.nn.foreign_tensors import read_pickled

_CONTEXT = 4096
# Our name, Meta's name, and the dimension along which parts of a tensor-parallel model are cut;
# None where each has the whole.
_LAYER = (
    ("attention.q_proj.weight", "attention.wq.weight", 0),
    ("attention.k_proj.weight", "attention.wk.weight", 0),
    ("attention.v_proj.weight", "attention.wv.weight", 0),
    ("attention.o_proj.weight", "attention.wo.weight", 1),
    ("mlp.gate_proj.weight", "feed_forward.w1.weight", 0),
    ("mlp.down_proj.weight", "feed_forward.w2.weight", 1),
    ("mlp.up_proj.weight", "feed_forward.w3.weight", 0),
    ("attention_norm.weight", "attention_norm.weight", None),
    ("mlp_norm.weight", "ffn_norm.weight", None),
)
_TOP = (
    ("embedding.weight", "tok_embeddings.weight", 1),
    ("norm.weight", "norm.weight", None),
    ("head.proj.weight", "output.weight", 0),
)
_HEAD_NORMS = tuple(
    (f"attention.{kind}_norm.{what}", f"attention.{kind}_normalization.{what}")
    for kind in "qk"
    for what in ("weight", "bias")
)
_PARAMS, _PARTS, _VQGAN = "params.json", "consolidate_params.json", "vqgan.yaml"


def meta_folder(source: Path) -> Path | None:
    """The folder of `params.json` under `source`, if it is of Meta's layout.

    Raises:
        CheckpointError: `source` holds several models.
    """
    if (source / "params.json").is_file():
        return source
    found = [p.parent for p in sorted(source.glob("models/*/params.json"))]
    if len(found) > 1:
        names = ", ".join(str(p) for p in found)
        raise CheckpointError(f"{source} holds several models: name one of {names}")
    return found[0] if found else None


def read_meta(model: Path) -> ChameleonCheckpoint:
    """Everything of a model folder of Meta and of `../../tokenizer` beside it.

    Raises:
        CheckpointError: files are missing or damaged, tensors missing or unexpected.
    """
    params = _read_params(model)
    num_parts = params.get("model_parallel_size", 1)
    if type(num_parts) is not int or num_parts < 1:
        raise CheckpointError(f"{model}: model_parallel_size {num_parts!r} is no number of parts")
    parts = _read_parts(model, num_parts)
    tokenizer = model.parent.parent / "tokenizer"
    text = tokenizer / "text_tokenizer.json"
    if not text.is_file():
        raise CheckpointError(f"no text tokenizer at {text}: keep the folders of the release")
    try:
        described = read_yaml(tokenizer / _VQGAN)["model"]["params"]["ddconfig"]
        resolution = int(described["resolution"])
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{tokenizer / _VQGAN} tells no resolution ({error})") from None
    image, _ = read_vqgan(tokenizer / "vqgan.ckpt", resolution=resolution)
    try:
        names = json.loads(text.read_text("utf-8"))["model"]["vocab"]
        vocabulary_map = dict(names.items())
        config = _config(params, parts)
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{model} or its tokenizer is no Chameleon ({error})") from None
    tensors, extra = _join(parts, config, str(model))
    places = {n: model / n for n in (_PARAMS, _PARTS)} | {_VQGAN: tokenizer / _VQGAN}
    return ChameleonCheckpoint(
        config=config,
        tensors=tensors,
        vocabulary_map=vocabulary_map,
        tokenizer_json=text.read_bytes(),
        image_tokenizer=image,
        num_parts=num_parts,
        files={n: p.read_bytes() for n, p in places.items() if p.is_file()},
        extra=extra,
    )


def write_meta(checkpoint: ChameleonCheckpoint, root: Path) -> None:
    """The release's folders, with the model under `root/models/model`.

    Raises:
        CheckpointError: heads of one part have different norms, which Meta's layout cannot hold, or
            there is no decoder.
    """
    if not checkpoint.image_tokenizer.config.decoder:
        raise CheckpointError(
            "Meta's layout holds the decoder of pictures, and this model came without one: convert "
            "it from Hugging Face again with --vqgan vqgan.ckpt"
        )
    config = checkpoint.config
    files = dict(checkpoint.files)
    params = _merged_params(files) or _params(config, len(checkpoint.tensors["embedding.weight"]))
    num_parts = checkpoint.num_parts
    model, tokenizer = root / "models" / "model", root / "tokenizer"
    text = _named_tokenizer(checkpoint)
    parts = _split(checkpoint, num_parts)
    model.mkdir(parents=True, exist_ok=True)
    tokenizer.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        name = "consolidated.pth" if num_parts == 1 else f"consolidated.{number:02d}.pth"
        torch.save(part, model / name)
    if _PARAMS not in files:
        files[_PARAMS] = json.dumps({"model": params}, indent=2).encode()
        files[_PARTS] = json.dumps({"model_parallel_size": num_parts}).encode()
    files.setdefault(_VQGAN, _vqgan_yaml(checkpoint.image_tokenizer.config).encode())
    for name, content in files.items():
        if name in (_PARAMS, _PARTS, _VQGAN):
            (tokenizer if name == _VQGAN else model).joinpath(name).write_bytes(content)
    (tokenizer / "text_tokenizer.json").write_bytes(text)
    network = checkpoint.image_tokenizer.network
    torch.save({"state_dict": dict(network.state_dict())}, tokenizer / "vqgan.ckpt")


def to_halves(x: Tensor, num_heads: int) -> Tensor:
    """Rows of queries or keys from neighbouring rotary pairs to halves."""
    return rearrange(x, "(n d two) ... -> (n two d) ...", n=num_heads, two=2)


def to_neighbours(x: Tensor, num_heads: int) -> Tensor:
    """The inverse of `to_halves`."""
    return rearrange(x, "(n two d) ... -> (n d two) ...", n=num_heads, two=2)


def _join(
    parts: Sequence[Mapping[str, Tensor]], config: TransformerConfig, source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our tensors, and those of the parts that cannot be had from them again."""
    used: set[str] = set()
    extra: dict[str, Tensor] = {}
    missing: list[str] = []

    def joined(name: str, dim: int | None) -> Tensor | None:
        used.add(name)
        if lacking := [i for i, part in enumerate(parts) if name not in part]:
            missing.append(f"{name} (part {lacking[0]})" if len(parts) > 1 else name)
            return None
        pieces = [part[name] for part in parts]
        if dim is not None:
            return torch.cat(pieces, dim)
        if all(torch.equal(pieces[0], p) for p in pieces[1:]):
            return pieces[0]
        # Trained apart by rounding: their mean is used, each is kept for the way back.
        extra.update({f"{i}|{name}": p.clone() for i, p in enumerate(pieces)})
        return torch.stack([p.float() for p in pieces]).mean(0).to(pieces[0].dtype)

    names = [*_TOP]
    for i in range(config.num_layers):
        names += [(f"blocks.{i}.{a}", f"layers.{i}.{b}", dim) for a, b, dim in _LAYER]
    found = {ours: joined(theirs, dim) for ours, theirs, dim in names}
    for i in range(config.num_layers):
        for ours, theirs in _HEAD_NORMS:
            norm = joined(f"layers.{i}.{theirs}", 0)
            if norm is not None:
                norm = to_halves(norm, len(parts))
                if config.qk_norm_per_head:
                    heads = config.num_heads if "q_norm" in ours else config.num_kv_heads
                    norm = norm.view(len(parts), -1).repeat_interleave(heads // len(parts), 0)
            found[f"blocks.{i}.{ours}"] = norm
    for number, part in enumerate(parts):
        extra |= {f"{number}|{n}": part[n] for n in part if n.endswith("rope.freqs")}
    unexpected = sorted({n for p in parts for n in p if n not in used and "rope.freqs" not in n})
    if missing or unexpected:
        said = f"missing: {', '.join(missing[:5])}; unexpected: {', '.join(unexpected[:5])}"
        raise CheckpointError(
            f"{source} is no Chameleon of its params.json ({len(missing)} tensors missing, "
            f"{len(unexpected)} unexpected; {said})"
        )
    tensors = {name: t for name, t in found.items() if t is not None}
    for name in tensors:
        if match := re.search(r"attention\.([qk])_proj\.weight$", name):
            heads = config.num_heads if match[1] == "q" else config.num_kv_heads
            tensors[name] = to_halves(tensors[name], heads)
    return tensors, extra


def _split(checkpoint: ChameleonCheckpoint, num_parts: int) -> list[dict[str, Tensor]]:
    config, tensors = checkpoint.config, checkpoint.tensors
    parts: list[dict[str, Tensor]] = [{} for _ in range(num_parts)]

    def put(name: str, tensor: Tensor, dim: int | None) -> None:
        pieces = tensor.chunk(num_parts, dim) if dim is not None else [tensor] * num_parts
        for i, (part, piece) in enumerate(zip(parts, pieces, strict=True)):
            part[name] = checkpoint.extra.get(f"{i}|{name}", piece).clone()

    for ours, theirs, dim in _TOP:
        put(theirs, tensors[ours], dim)
    for i in range(config.num_layers):
        for ours, theirs, dim in _LAYER:
            tensor = tensors[f"blocks.{i}.{ours}"]
            if ours.startswith(("attention.q_proj", "attention.k_proj")):
                heads = config.num_heads if ".q_proj" in ours else config.num_kv_heads
                tensor = to_neighbours(tensor, heads)
            put(f"layers.{i}.{theirs}", tensor, dim)
        for ours, theirs in _HEAD_NORMS:
            norm = _norm_of_parts(tensors[f"blocks.{i}.{ours}"], num_parts, f"blocks.{i}.{ours}")
            put(f"layers.{i}.{theirs}", to_neighbours(norm.reshape(-1), num_parts), 0)
    # Meta's loader insists on finding this one, and computes it anew.
    turned = torch.arange(0, config.head_dim, 2) / config.head_dim
    for part in parts:
        part["rope.freqs"] = config.rope_theta**-turned
    for key, tensor in checkpoint.extra.items():
        number, _, name = key.partition("|")
        if number.isdecimal() and int(number) < num_parts:
            parts[int(number)][name] = tensor.clone()
    return parts


def _norm_of_parts(norm: Tensor, num_parts: int, name: str) -> Tensor:
    """(parts, head_dim): one norm of each part, whose heads must share it."""
    if norm.dim() == 1:
        return norm.expand(num_parts, -1)
    groups = norm.view(num_parts, -1, norm.shape[-1])
    if not torch.equal(groups, groups[:, :1].expand_as(groups)):
        raise CheckpointError(
            f"{name} differs between the heads of one part, and Meta's layout has one norm a part: "
            "export it as hf-chameleon"
        )
    return groups[:, 0]


def _named_tokenizer(checkpoint: ChameleonCheckpoint) -> bytes:
    """The tokenizer file; Meta's code looks for codes and control tokens in its vocabulary too."""
    content = json.loads(checkpoint.tokenizer_json)
    vocabulary = content["model"]["vocab"]
    if not isinstance(vocabulary, dict):
        raise CheckpointError(
            "Meta's code reads a vocabulary of names and ids, which this kind of tokenizer file "
            "does not have: export it as hf-chameleon"
        )
    unknown = {n: i for n, i in checkpoint.vocabulary_map.items() if vocabulary.get(n) != i}
    if not unknown or set(unknown) == {"<image>"}:
        return checkpoint.tokenizer_json
    if taken := sorted(unknown.keys() & vocabulary.keys()):
        raise CheckpointError(
            f"the tokenizer file names {taken[0]} itself, with another id than the model: export "
            "it as hf-chameleon"
        )
    vocabulary.update(unknown)
    return json.dumps(content).encode()


def _read_parts(model: Path, num_parts: int) -> list[dict[str, Tensor]]:
    if num_parts == 1 and (model / "consolidated.pth").is_file():
        return [read_pickled(model / "consolidated.pth")]
    return [read_pickled(model / f"consolidated.{i:02d}.pth") for i in range(num_parts)]


def _read_params(model: Path) -> dict[str, Any]:
    files = {n: (model / n).read_bytes() for n in (_PARAMS, _PARTS) if (model / n).is_file()}
    params = _merged_params(files)
    if params is None:
        raise CheckpointError(f"{model} has no readable params.json")
    return params


def _merged_params(files: Mapping[str, bytes]) -> dict[str, Any] | None:
    """As Meta's loader merges them; None without the first."""
    if _PARAMS not in files:
        return None
    try:
        params = json.loads(files[_PARAMS])
        return {**params, **params.get("model", {}), **json.loads(files.get(_PARTS, b"{}"))}
    except (ValueError, TypeError, AttributeError):
        return None


def _config(params: Mapping[str, Any], parts: Sequence[Mapping[str, Tensor]]) -> TransformerConfig:
    if not params.get("qk_normalization", True):
        raise CheckpointError("params.json switches qk_normalization off: no Chameleon does")
    dim, heads = params["dim"], params["n_heads"]
    width = parts[0]["layers.0.feed_forward.w1.weight"].shape[0] * len(parts)
    return TransformerConfig(
        hidden_size=dim,
        num_layers=params["n_layers"],
        num_heads=heads,
        num_kv_heads=params.get("n_kv_heads") or heads,
        head_dim=dim // heads,
        intermediate_size=width,
        context_length=_CONTEXT,
        rope_theta=float(params.get("rope_theta", 10_000.0)),
        qk_norm="layer",
        qk_norm_per_head=len(parts) > 1,
        norm_order="swin" if params.get("swin_norm") else "pre",
        norm_eps=params.get("norm_eps", 1e-5),
    )


def _params(config: TransformerConfig, num_rows: int) -> dict[str, Any]:
    # Meta's code takes 2/3 of 4 dim times a factor, rounded up to a multiple: this hits our width.
    width = config.intermediate_size
    factor = min(1.0, 0.99 * width / int(8 * config.hidden_size / 3))
    return {
        "multiple_of": width,
        "ffn_dim_multiplier": factor,
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "qk_normalization": True,
        "swin_norm": config.norm_order == "swin",
        "vocab_size": num_rows,
    }


def _vqgan_yaml(config: VQGANConfig) -> str:
    shape = {
        "double_z": False,
        "z_channels": config.z_channels,
        "resolution": config.resolution,
        "in_channels": 3,
        "out_ch": 3,
        "ch": config.channels,
        "ch_mult": list(config.channel_multipliers),
        "num_res_blocks": config.num_res_blocks,
        "attn_resolutions": list(config.attn_resolutions),
        "dropout": 0.0,
    }
    params = {
        "embed_dim": config.codebook_dim,
        "n_embed": config.codebook_size,
        "ddconfig": shape,
        "lossconfig": None,
        "ckpt_path": None,
    }
    return yaml.safe_dump({"model": {"params": params}}, sort_keys=False)

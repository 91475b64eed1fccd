"""Tiny Chameleons in the exact layouts of Hugging Face and Meta, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.models.convert.chameleon import code_name
from genvlm.tokenization.vqgan import VQGAN

CODES, RESOLUTION = 32, 16
_WORDS = ["a", "red", "square", "blue", "bar", "left", "of", "right", "cow", "heart", "lemon"]
_IMAGE = VQGANConfig(
    resolution=RESOLUTION, channels=32, channel_multipliers=(1, 1), num_res_blocks=1,
    z_channels=8, codebook_size=CODES, codebook_dim=4,
)  # fmt: skip


def tiny_vocabulary_map(image_token: str) -> dict[str, int]:
    """Names of ids as Chameleon has them: codes in no order, control tokens scattered."""
    order = torch.randperm(CODES, generator=torch.Generator().manual_seed(1)).tolist()
    names = ["<s>", "<pad>", "</s>", "<unk>", *(code_name(c) for c in order)]
    names += ["<eoss>", "<racm3:break>", "<reserved08706>", image_token, *_WORDS]
    return {name: token_id for token_id, name in enumerate(names)}


def tiny_tokenizer_json(vocabulary_map: dict[str, int]) -> str:
    """A `tokenizers` file that splits at blanks; what looks special is one token."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary_map, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(
        [AddedToken(name) for name in vocabulary_map if name.startswith("<")]
    )
    return str(tokenizer.to_str())


def write_tiny_huggingface(
    folder: Path, *, swin: bool = False, dtype: str = "float32", seed: int = 0
) -> Any:
    """Write a folder in several shards as transformers writes it; returns the model."""
    from transformers import ChameleonConfig, ChameleonForConditionalGeneration

    names = tiny_vocabulary_map("<image>")
    torch.manual_seed(seed)
    model = ChameleonForConditionalGeneration(
        ChameleonConfig(
            vocab_size=len(names) + 3,  # rows without a name, as the release has
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
            swin_norm=swin,
            bos_token_id=names["<s>"],
            eos_token_id=names["</s>"],
            pad_token_id=names["<pad>"],
            vocabulary_map=names,
            vq_config={
                "resolution": RESOLUTION, "base_channels": 32, "channel_multiplier": [1, 1],
                "num_res_blocks": 1, "latent_channels": 8, "num_embeddings": CODES, "embed_dim": 4,
            },
        )
    ).eval()  # fmt: skip
    for name, parameter in model.named_parameters():
        if "norm" in name and "vqmodel" not in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="60KB")
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(names))
    (folder / "preprocessor_config.json").write_text('{"size": 16}')
    return model


def write_tiny_meta(root: Path, *, num_parts: int = 1, swin: bool = False) -> dict[str, Tensor]:
    """Write Meta's folders; returns the whole (joined) tensors by Meta's names."""
    names = tiny_vocabulary_map("<reserved08707>")
    dim, heads, kv_heads, width, layers, rows = 32, 4, 2, 48, 2, len(names)
    rows += -rows % 4
    head_dim = dim // heads
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return 0.2 * torch.randn(*shape, generator=generator)

    cut: dict[str, tuple[Tensor, int | None]] = {
        "tok_embeddings.weight": (random(rows, dim), 1),
        "norm.weight": (1 + random(dim), None),
        "output.weight": (random(rows, dim), 0),
    }
    for i in range(layers):
        cut |= {
            f"layers.{i}.attention.wq.weight": (random(dim, dim), 0),
            f"layers.{i}.attention.wk.weight": (random(kv_heads * head_dim, dim), 0),
            f"layers.{i}.attention.wv.weight": (random(kv_heads * head_dim, dim), 0),
            f"layers.{i}.attention.wo.weight": (random(dim, dim), 1),
            f"layers.{i}.feed_forward.w1.weight": (random(width, dim), 0),
            f"layers.{i}.feed_forward.w2.weight": (random(dim, width), 1),
            f"layers.{i}.feed_forward.w3.weight": (random(width, dim), 0),
            f"layers.{i}.attention_norm.weight": (1 + random(dim), None),
            f"layers.{i}.ffn_norm.weight": (1 + random(dim), None),
        }
        for kind in "qk":
            for what in ("weight", "bias"):
                name = f"layers.{i}.attention.{kind}_normalization.{what}"
                cut[name] = (1 + random(num_parts * head_dim), 0)
    model, tokenizer = root / "models" / "7b", root / "tokenizer"
    model.mkdir(parents=True)
    tokenizer.mkdir()
    for part in range(num_parts):
        tensors = {
            n: (t.chunk(num_parts, d)[part] if d is not None else t).clone()
            for n, (t, d) in cut.items()
        } | {"rope.freqs": torch.arange(4.0)}
        name = "consolidated.pth" if num_parts == 1 else f"consolidated.{part:02d}.pth"
        torch.save(tensors, model / name)
    params = {
        "dim": dim, "n_layers": layers, "n_heads": heads, "n_kv_heads": kv_heads,
        "norm_eps": 1e-5, "rope_theta": 10000.0, "qk_normalization": True, "swin_norm": swin,
        "vocab_size": rows,
    }  # fmt: skip
    (model / "params.json").write_text(json.dumps({"model": params, "other": 1}))
    (model / "consolidate_params.json").write_text(json.dumps({"model_parallel_size": num_parts}))
    (tokenizer / "text_tokenizer.json").write_text(tiny_tokenizer_json(names))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        torch.save({"state_dict": VQGAN(_IMAGE).state_dict()}, tokenizer / "vqgan.ckpt")
    shape = {"resolution": RESOLUTION, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}
    described = {"model": {"params": {"embed_dim": 4, "n_embed": CODES, "ddconfig": shape}}}
    (tokenizer / "vqgan.yaml").write_text(yaml.safe_dump(described))
    return {n: t for n, (t, _) in cut.items()}

"""Every place where genvlm reads weights, tokenizers or states that somebody else may have written.

Each reader is given a folder that is sound, in which one file's content is then hostile: those with
a manifest name its hash, as whoever wrote the file would write both.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from genvlm.config.data import CaptionsSource
from genvlm.config.diffusion import PairDataConfig
from genvlm.config.training import OptimizerConfig
from genvlm.nn.whole_files import hash_file


@dataclass(frozen=True)
class PickleReader:
    """How a file comes to be read."""

    name: str
    prepare: Callable[[Path], None]
    """Writes a sound folder."""
    read: Callable[[Path, bytes], object]
    """Reads the folder with this content of its file."""
    light: bool = True
    """Whether it is ready without transformers, diffusers or Accelerate."""


def _nothing(_folder: Path) -> None:
    pass


def _put(folder: Path, names: Sequence[str], content: bytes) -> Path:
    for name in names:
        (folder / name).write_bytes(content)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        hashes = json.loads(manifest.read_text())
        hashes |= {name: hash_file(folder / name) for name in names}
        manifest.write_text(json.dumps(hashes))
    return folder / names[0]


def _read_weights(folder: Path, content: bytes) -> object:
    from genvlm.nn.foreign_tensors import read_pickled

    return read_pickled(_put(folder, ["weights.pth"], content))


def _read_safetensors(folder: Path, content: bytes) -> object:
    from genvlm.nn.safetensors_folder import load_tensors

    return load_tensors(_put(folder, ["model.safetensors"], content))


def _read_shards(folder: Path, content: bytes) -> object:
    from genvlm.nn.foreign_tensors import read_sharded

    _put(folder, ["pytorch_model.bin"], content)
    index = {"weight_map": {"weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return read_sharded(folder)


def _read_vqgan(folder: Path, content: bytes) -> object:
    from genvlm.models.convert.vqgan import read_vqgan

    return read_vqgan(_put(folder, ["last.ckpt"], content), resolution=16)


def _write_image_tokenizer(folder: Path) -> None:
    from genvlm.testing.tiny import tiny_image_tokenizer

    tiny_image_tokenizer().save(folder)


def _read_image_tokenizer(folder: Path, content: bytes) -> object:
    from genvlm.tokenization.image import load_image_tokenizer

    _put(folder, ["image.safetensors"], content)
    return load_image_tokenizer(folder)


def _read_text_tokenizer(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        from genvlm.tokenization.text import load_text_tokenizer

        return load_text_tokenizer(_put(folder, [name], content))

    return read


def _write_model(folder: Path) -> None:
    from genvlm.models.pretrained import save_pretrained
    from genvlm.testing.tiny import tiny_pretrained

    save_pretrained(tiny_pretrained(), folder / "model", "a card")


def _read_model(folder: Path, content: bytes) -> object:
    from genvlm.models.pretrained import load_pretrained

    _put(folder / "model", ["model.safetensors", "pytorch_model.bin"], content)
    return load_pretrained(folder / "model")


def _read_latents(folder: Path, content: bytes) -> object:
    """A run's cache of latents, which lies where a user says."""
    from genvlm.data.pairs import build_pairs
    from genvlm.testing.tiny import write_tiny_captions

    def build() -> object:
        config = PairDataConfig(sources=(CaptionsSource(path=str(folder / "pairs")),))
        return build_pairs(config, lambda p: torch.zeros(len(p), 1, 2, 2), "key", folder / "cache")

    if not (folder / "cache").is_dir():
        write_tiny_captions(folder / "pairs")
        build()
    (cached,) = (folder / "cache").glob("*.npz")
    cached.write_bytes(content)
    return build()


def _write_meta(folder: Path) -> None:
    from genvlm.testing.chameleon import write_tiny_meta

    write_tiny_meta(folder)


def _read_meta(pattern: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        from genvlm.models.convert.meta import meta_folder, read_meta

        for path in folder.rglob(pattern):
            path.write_bytes(content)
        model = meta_folder(folder)
        assert model is not None
        return read_meta(model)

    return read


def _write_chameleon(folder: Path) -> None:
    from genvlm.testing.chameleon import write_tiny_huggingface

    write_tiny_huggingface(folder)


def _read_chameleon(folder: Path, content: bytes) -> object:
    from genvlm.models.convert.huggingface import read_huggingface

    for path in folder.glob("*.safetensors"):
        path.write_bytes(content)
    _put(folder, ["pytorch_model.bin"], content)
    return read_huggingface(folder)


def _write_clip(folder: Path) -> None:
    from genvlm.testing.foreign_models import write_tiny_clip

    write_tiny_clip(folder)


def _read_clip(names: Sequence[str]) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        from genvlm.scoring.transformers_folder import load_foreign

        if "model.safetensors" not in names:
            (folder / "model.safetensors").unlink(missing_ok=True)
        _put(folder, names, content)
        return load_foreign(folder, "contrastive")

    return read


def _write_pipeline(folder: Path) -> None:
    from genvlm.testing.tiny_stable_diffusion import write_tiny_stable_diffusion

    write_tiny_stable_diffusion(folder)


def _read_pipeline(suffix: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        from genvlm.models.diffusion.stable_diffusion import load_stable_diffusion

        for path in folder.rglob("*.safetensors"):
            path.with_suffix(suffix).write_bytes(content)
            if suffix != ".safetensors":
                path.unlink()
        return load_stable_diffusion(folder)

    return read


def _write_text_encoder(folder: Path) -> None:
    from genvlm.testing.tiny_diffusion import write_tiny_text_encoder

    write_tiny_text_encoder(folder)


def _read_text_encoder(folder: Path, content: bytes) -> object:
    from genvlm.models.text_encoder import load_frozen_texts

    (folder / "model.safetensors").unlink(missing_ok=True)
    _put(folder, ["pytorch_model.bin"], content)
    return load_frozen_texts(folder, folder, 8)


def _read_scored(folder: Path, content: bytes) -> object:
    from genvlm.studies.backbones import load_scored

    return load_scored(_put(folder, ["scores.npz"], content))


class _Squares(nn.Module):
    """Something to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


def _read_optimizers(folder: Path, content: bytes) -> object:
    """A run's own checkpoint: a manifest is no proof that it is one's own."""
    from genvlm.training.engine import Engine

    engine = Engine(
        _Squares(), OptimizerConfig(learning_rate=1e-3), num_steps=2, precision="float32"
    )
    engine.save(folder)
    for path in folder.glob("*.pt"):
        path.write_bytes(content)
    engine.load(folder)
    return engine


def _read_vqgan_state(folder: Path, content: bytes) -> object:
    from genvlm.training.adversarial import VQGANState

    _put(folder, ["state.pt"], content)
    state = VQGANState.__new__(VQGANState)  # reading the file comes before all that it needs
    state.load(folder)
    return state


READERS: Sequence[PickleReader] = (
    PickleReader("weights of a foreign checkpoint", _nothing, _read_weights),
    PickleReader("safetensors", _nothing, _read_safetensors),
    PickleReader("shards that an index names", _nothing, _read_shards),
    PickleReader("foreign image tokenizer", _nothing, _read_vqgan),
    PickleReader("image tokenizer", _write_image_tokenizer, _read_image_tokenizer),
    PickleReader("SentencePiece model", _nothing, _read_text_tokenizer("text.model")),
    PickleReader("tokenizer.json", _nothing, _read_text_tokenizer("text.json")),
    PickleReader("model folder", _write_model, _read_model),
    PickleReader("cached latents", _nothing, _read_latents),
    PickleReader("state of an image tokenizer's training", _nothing, _read_vqgan_state),
    PickleReader("Meta's Chameleon", _write_meta, _read_meta("consolidated*.pth"), light=False),
    PickleReader("Meta's image tokenizer", _write_meta, _read_meta("vqgan.ckpt"), light=False),
    PickleReader("Hugging Face's Chameleon", _write_chameleon, _read_chameleon, light=False),
    PickleReader("pickled CLIP", _write_clip, _read_clip(["pytorch_model.bin"]), light=False),
    PickleReader("CLIP", _write_clip, _read_clip(["model.safetensors"]), light=False),
    PickleReader("pickled Stable Diffusion", _write_pipeline, _read_pipeline(".bin"), light=False),
    PickleReader("Stable Diffusion", _write_pipeline, _read_pipeline(".safetensors"), light=False),
    PickleReader("text encoder", _write_text_encoder, _read_text_encoder, light=False),
    PickleReader("scores of drawings", _nothing, _read_scored, light=False),
    PickleReader("states of optimizers", _nothing, _read_optimizers, light=False),
)  # fmt: skip

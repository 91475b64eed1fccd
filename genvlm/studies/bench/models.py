"""One model twice: here and as transformers' Chameleon, made of it by `genvlm convert`.

Weights are random. The rows of control tokens in the head are zero, so that greedy text goes on
without an end.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import ConfigError, EvaluationError
from genvlm.models.build import build_transformer
from genvlm.models.convert.chameleon import code_name
from genvlm.models.convert.layouts import convert
from genvlm.models.pretrained import (
    PretrainedModel,
    build_vocabulary,
    load_pretrained,
    save_pretrained,
)
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.text import HuggingFaceTokenizer
from genvlm.tokenization.vqgan import VQGAN

_NAMES = {"eoi": "<eoss>", "pad": "<pad>", "bos": "<s>", "eos": "</s>", "boi": "<racm3:break>"}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Chameleon in small: pre-norm, LayerNorm of queries and keys, SwiGLU, rotary positions."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    context_length: int
    num_words: int
    """Text pieces."""
    codebook_size: int
    grid_side: int = 16
    """Codes of one side of a picture."""

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items())

    @property
    def config(self) -> TransformerConfig:
        """As configuration."""
        return TransformerConfig(
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=self.hidden_size // self.num_heads,
            intermediate_size=self.intermediate_size,
            context_length=self.context_length,
            qk_norm="layer",
            qk_norm_per_head=True,
        )


@dataclass(frozen=True)
class Twins:
    """The same weights in both frameworks, and the folder that holds both."""

    ours: PretrainedModel
    theirs: Any
    folder: Path

    @cached_property
    def foreign_ids(self) -> Int[Tensor, " ids"]:
        """transformers' id of each of our ids."""
        return foreign_ids(self.ours, self.theirs)


def words(num: int) -> list[str]:
    """The words that the tokenizer knows, one piece each."""
    return [f"w{i}" for i in range(num)]


def random_texts(shape: Shape, num: int, num_pieces: int, seed: int = 0) -> list[str]:
    """Texts of exactly so many pieces."""
    rng = np.random.default_rng(seed)
    known = words(shape.num_words)
    return [
        " ".join(known[i] for i in row)
        for row in rng.integers(shape.num_words, size=(num, num_pieces))
    ]


def random_codes(shape: Shape, seed: int = 0) -> Int[np.ndarray, "rows columns"]:
    """A picture of random codes."""
    side = shape.grid_side
    return np.random.default_rng(seed).integers(shape.codebook_size, size=(side, side))


def build_twins(shape: Shape, folder: Path) -> Twins:
    """Write the model in both layouts into `folder` and load both."""
    save_pretrained(_build(shape), folder / "ours", "Random weights of a benchmark.\n")
    convert(folder / "ours", folder / "theirs", "hf-chameleon")
    return Twins(load_ours(folder), load_theirs(folder), folder)


def load_ours(folder: Path) -> PretrainedModel:
    """Our half of the twins."""
    return load_pretrained(folder / "ours")


def load_theirs(folder: Path) -> Any:
    """transformers' half. Raises ConfigError: transformers is not installed."""
    try:
        from transformers import ChameleonForConditionalGeneration
        from transformers.utils import logging
    except ImportError:
        raise ConfigError(
            "this benchmark compares with transformers: pip install 'transformers>=5'"
        ) from None
    logging.disable_progress_bar()
    model = ChameleonForConditionalGeneration.from_pretrained(folder / "theirs")
    # The encoder of pictures has no part in what is measured.
    return model.eval().requires_grad_(False)


def foreign_ids(ours: PretrainedModel, theirs: Any) -> Int[Tensor, " ids"]:
    """transformers' id of each of our ids; -1 for control tokens that it lacks."""
    v, names = ours.vocabulary, theirs.config.vocabulary_map
    ids = torch.full((v.size,), -1)
    ids[v.image_range.start : v.image_range.stop] = torch.tensor(
        [names[code_name(code)] for code in range(len(v.image_range))]
    )
    ids[v.text_range.start : v.text_range.stop] = torch.arange(len(v.text_range))
    for key, name in _NAMES.items():
        ids[getattr(v, key)] = names[name]
    return ids


def check_close(what: str, ours: Tensor, theirs: Tensor, tolerance: float) -> float:
    """The largest difference. Raises EvaluationError when it is above the tolerance."""
    difference = float((ours.double() - theirs.double()).abs().max())
    if ours.shape != theirs.shape or not difference <= tolerance:
        raise EvaluationError(
            f"{what} differ by {difference:.3g}, more than {tolerance:g}: answers that are not "
            "equal are not timed"
        )
    return difference


def check_equal(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Raises EvaluationError unless all numbers are the same."""
    if ours.shape != theirs.shape or not torch.equal(ours, theirs):
        differing = f"{int((ours != theirs).sum())} of {ours.numel()}" if (
            ours.shape == theirs.shape
        ) else f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"  # fmt: skip
        raise EvaluationError(
            f"{what} differ ({differing}): answers that are not equal are not timed"
        )


def _build(shape: Shape) -> PretrainedModel:
    text = HuggingFaceTokenizer(_tokenizer_json(shape).encode())
    config = VQGANConfig(
        resolution=2 * shape.grid_side, channels=32, channel_multipliers=(1, 1), num_res_blocks=1,
        z_channels=8, codebook_size=shape.codebook_size, codebook_dim=8, decoder=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = ImageTokenizer(config, VQGAN(config))
    vocabulary = build_vocabulary(text, image)
    model = build_transformer(shape.config, vocabulary.size, seed=0).eval().requires_grad_(False)
    control = vocabulary.control_range
    model.head.proj.weight[control.start : control.stop] = 0
    return PretrainedModel(
        model=model, text_tokenizer=text, image_tokenizer=image, condition_dropout=0.1
    )


def _tokenizer_json(shape: Shape) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = {word: i for i, word in enumerate(words(shape.num_words))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token=next(iter(known))))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return json.dumps(json.loads(tokenizer.to_str()))

"""Chameleon between our model folders and what both foreign layouts have in common.

Rows of embedding and head stand here in the foreign order of ids; a model folder keeps the
permutation, so that what was read is written again bit for bit.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genvlm.config.schema import parse_config, read_yaml
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import CheckpointError
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.models.model_folder import verify_folder
from genvlm.models.pretrained import (
    ModelFolderConfig,
    PretrainedModel,
    build_vocabulary,
    save_pretrained,
)
from genvlm.nn.safetensors_folder import load_into, load_tensors, save_tensors
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer
from genvlm.tokenization.text import HuggingFaceTokenizer, load_text_tokenizer
from genvlm.tokenization.vocabulary import Vocabulary

_CONTROL_NAMES = {
    "eoi": "<eoss>", "pad": "<pad>", "bos": "<s>", "eos": "</s>", "boi": "<racm3:break>",
}  # fmt: skip
_ORIGIN = "origin"
_FILES = "files"
_FILE_KINDS = (".json", ".jinja", ".txt", ".md", ".yaml")
_QK_NORM_EPS = 1e-5
"""Of queries and keys in the code of Meta and of Hugging Face, whatever the other norms have."""
_PER_ROW = ("embedding.weight", "head.proj.weight")


@dataclass(frozen=True, kw_only=True)
class ChameleonCheckpoint:
    """A Chameleon: tensors in our names, rows of embedding and head by foreign ids."""

    config: TransformerConfig
    tensors: Mapping[str, Tensor]
    vocabulary_map: Mapping[str, int]
    """Foreign ids by the names of their tokens."""
    tokenizer_json: bytes
    image_tokenizer: ImageTokenizer
    num_parts: int = 1
    """In how many tensor-parallel parts it was trained, each with a QK-norm of its own."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Small files of the release that are written again as they are, by name."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that cannot be had from the others, in foreign names."""


def foreign_ids(vocabulary_map: Mapping[str, int], vocab_size: int) -> dict[str, list[int]]:
    """Foreign ids of image codes in their order, of control tokens, of all the rest as text.

    Raises:
        CheckpointError: a control token or a code is missing.
    """
    for name, token_id in vocabulary_map.items():
        if type(token_id) is not int or not 0 <= token_id < vocab_size:
            raise CheckpointError(
                f"the vocabulary gives {name!r} the id {token_id!r} of {vocab_size} rows"
            )
    codes = {
        _code_of(name): token_id
        for name, token_id in vocabulary_map.items()
        if name.startswith("IMGIMG")
    }
    if not codes or sorted(codes) != list(range(len(codes))):
        raise CheckpointError(
            f"the vocabulary names {len(codes)} image codes that are not 0..{len(codes) - 1}: "
            "this is no vocabulary of Chameleon"
        )
    if missing := [n for n in _CONTROL_NAMES.values() if n not in vocabulary_map]:
        raise CheckpointError(f"the vocabulary lacks {', '.join(missing)}: no one of Chameleon")
    control = {key: vocabulary_map[name] for key, name in _CONTROL_NAMES.items()}
    taken = {*codes.values(), *control.values()}
    if len(taken) < len(codes) + len(control):
        raise CheckpointError("the vocabulary gives two of its codes and control tokens one id")
    return {
        "image": [codes[i] for i in range(len(codes))],
        **{key: [token_id] for key, token_id in control.items()},
        "text": [i for i in range(vocab_size) if i not in taken],
    }


def _check_rows(checkpoint: ChameleonCheckpoint) -> int:
    """Rows of embedding and head, which must be the same."""
    shapes = {name: checkpoint.tensors.get(name) for name in _PER_ROW}
    if any(t is None or t.dim() != 2 or not t.is_floating_point() for t in shapes.values()):
        raise CheckpointError("the checkpoint lacks an embedding or a head of two dimensions")
    rows = {name: len(t) for name, t in shapes.items() if t is not None}
    if len(set(rows.values())) != 1:
        raise CheckpointError(f"embedding and head have unequal numbers of rows: {rows}")
    return rows[_PER_ROW[0]]


def _check_norm_eps(config: TransformerConfig, source: str) -> None:
    if config.norm_eps != _QK_NORM_EPS:
        raise CheckpointError(
            f"{source} has norm_eps {config.norm_eps:g}: Chameleon's code normalises queries and "
            f"keys with {_QK_NORM_EPS:g} whatever it says, and one value serves all norms here"
        )


def _code_of(name: str) -> int:
    """`IMGIMGBCZ` is code 12: letters A to J are digits (Chameleon's vocab.py)."""
    digits = name.removeprefix("IMGIMG").removesuffix("Z")
    if re.fullmatch("[A-J]+", digits):
        code = int(digits.translate(str.maketrans("ABCDEFGHIJ", "0123456789")))
        if code_name(code) == name:
            return code
    raise CheckpointError(f"the vocabulary names {name!r}, which is no image code")


def code_name(code: int) -> str:
    """The name of an image code in Chameleon's vocabulary."""
    return "IMGIMG" + str(code).translate(str.maketrans("0123456789", "ABCDEFGHIJ")) + "Z"


def _permutation(vocabulary: Vocabulary, ids: Mapping[str, list[int]]) -> np.ndarray:
    """Foreign id of each of our rows; -1 where there is none (EOV, BOV)."""
    rows = np.full(vocabulary.size, -1)
    rows[vocabulary.image_range.start : vocabulary.image_range.stop] = ids["image"]
    rows[vocabulary.text_range.start : vocabulary.text_range.stop] = ids["text"]
    for key in _CONTROL_NAMES:
        rows[getattr(vocabulary, key)] = ids[key][0]
    return rows


def save_as_model_folder(checkpoint: ChameleonCheckpoint, folder: Path, card: str) -> None:
    """Write a model folder whose rows stand in our order.

    Raises:
        CheckpointError: tensors do not fit the configuration, or the vocabulary is none.
    """
    vocab_size = _check_rows(checkpoint)
    _check_norm_eps(checkpoint.config, "the checkpoint")
    ids = foreign_ids(checkpoint.vocabulary_map, vocab_size)
    text = HuggingFaceTokenizer(checkpoint.tokenizer_json, piece_ids=ids["text"])
    vocabulary = build_vocabulary(text, checkpoint.image_tokenizer)
    if len(vocabulary.image_range) != len(ids["image"]):
        raise CheckpointError(
            f"the image tokenizer has {len(vocabulary.image_range)} codes, and the vocabulary "
            f"names {len(ids['image'])}: they are of different models"
        )
    rows = _permutation(vocabulary, ids)
    tensors = dict(checkpoint.tensors)
    for name in _PER_ROW:
        foreign = tensors[name]
        own = foreign.new_zeros(len(rows), foreign.shape[1])
        own[torch.from_numpy(rows >= 0)] = foreign[torch.from_numpy(rows[rows >= 0])]
        tensors[name] = own
    with torch.device("meta"):
        model = MixedModalTransformer(checkpoint.config, vocabulary.size)
    load_into(model, tensors, "the checkpoint", assign=True)
    pretrained = PretrainedModel(
        model=model,
        text_tokenizer=text,
        image_tokenizer=checkpoint.image_tokenizer,
        condition_dropout=0.0,  # nothing is known of it, so nothing is built on it
    )

    def write_origin(target: Path) -> None:
        origin = target / _ORIGIN
        (origin / _FILES).mkdir(parents=True)
        for name, content in checkpoint.files.items():
            (origin / _FILES / name).write_bytes(content)
        (origin / "token_ids.json").write_text(json.dumps(rows.tolist()))
        (origin / "num_parts.json").write_text(json.dumps(checkpoint.num_parts))
        (origin / "vocabulary_map.json").write_text(json.dumps(dict(checkpoint.vocabulary_map)))
        if checkpoint.extra:
            save_tensors(checkpoint.extra, origin / "extra.safetensors")

    save_pretrained(pretrained, folder, card, also=write_origin)


def load_from_model_folder(folder: Path) -> ChameleonCheckpoint:
    """A model folder with its rows in foreign order: that of its origin, or its own.

    Raises:
        CheckpointError: damaged, or of a shape that Chameleon's code cannot express.
    """
    listed = set(verify_folder(folder))
    config = parse_config(
        ModelFolderConfig, read_yaml(folder / "config.yaml"), str(folder / "config.yaml")
    )
    text = load_text_tokenizer(folder / "tokenizers")
    image = load_image_tokenizer(folder / "tokenizers")
    if not isinstance(text, HuggingFaceTokenizer):
        raise CheckpointError(
            f"{folder} has a SentencePiece tokenizer, and Chameleon is read with a `tokenizers` "
            "JSON: it cannot be written in a layout of Chameleon"
        )
    _check_expressible(config, image, folder)
    _check_norm_eps(config.model, str(folder))
    tensors = dict(load_tensors(folder / "model.safetensors"))
    origin = folder / _ORIGIN
    has_origin = f"{_ORIGIN}/token_ids.json" in listed
    if has_origin:
        rows = np.array(json.loads((origin / "token_ids.json").read_text()))
        vocabulary_map = json.loads((origin / "vocabulary_map.json").read_text())
    elif text.is_subset:
        raise CheckpointError(
            f"{folder} uses a part of its tokenizer file and has lost the {_ORIGIN} folder, which "
            "says what ids the rest had: convert the release again"
        )
    else:
        rows, vocabulary_map = _own_layout(build_vocabulary(text, image), text)
    known = torch.from_numpy(rows >= 0)
    for name in _PER_ROW:
        foreign = tensors[name].new_zeros(int(known.sum()), tensors[name].shape[1])
        foreign[torch.from_numpy(rows[rows >= 0])] = tensors[name][known]
        tensors[name] = foreign
    # Only what the manifest lists, and no name that could reach other files.
    files = {
        name: (origin / _FILES / name).read_bytes()
        for name in (n.removeprefix(f"{_ORIGIN}/{_FILES}/") for n in sorted(listed))
        if "/" not in name and Path(name).suffix in _FILE_KINDS and not name.endswith(".index.json")
        and f"{_ORIGIN}/{_FILES}/{name}" in listed
    }  # fmt: skip
    extra = origin / "extra.safetensors"
    has_extra = f"{_ORIGIN}/extra.safetensors" in listed
    num_parts = json.loads((origin / "num_parts.json").read_text()) if has_origin else 1
    return ChameleonCheckpoint(
        config=config.model,
        tensors=tensors,
        vocabulary_map=vocabulary_map,
        tokenizer_json=text.json,
        image_tokenizer=image,
        files=files,
        extra=load_tensors(extra) if has_extra else {},
        num_parts=num_parts,
    )


def _own_layout(
    vocabulary: Vocabulary, text: HuggingFaceTokenizer
) -> tuple[np.ndarray, dict[str, int]]:
    """Ids and their names for a model that was trained here.

    Text pieces keep the ids of their tokenizer file, which stays valid; codes and control follow.
    """
    num_text, num_codes = len(vocabulary.text_range), len(vocabulary.image_range)
    keys = list(_CONTROL_NAMES)
    ids = {
        "text": list(range(num_text)),
        "image": list(range(num_text, num_text + num_codes)),
        **{key: [num_text + num_codes + i] for i, key in enumerate(keys)},
    }
    names = {name: i for i, name in enumerate(text.piece_names())}
    names |= {code_name(code): i for code, i in enumerate(ids["image"])}
    # A piece of the same name, which the tokenizer file may hold, loses it to the control token.
    names |= {_CONTROL_NAMES[key]: ids[key][0] for key in keys}
    return _permutation(vocabulary, ids), names


def _check_expressible(
    folder_config: ModelFolderConfig, image: ImageTokenizer, folder: Path
) -> None:
    config = folder_config.model
    odd = {
        "syntax.num_gaps": folder_config.syntax.num_gaps > 0,
        "syntax.max_side": folder_config.syntax.max_side > 0,
        "a video tokenizer": folder_config.video_tokenizer is not None,
        f"qk_norm {config.qk_norm}": config.qk_norm != "layer",
        "rotary_dims": config.rotary_dims is not None,
        "tie_head": config.tie_head,
        "num_conditions": config.num_conditions > 0,
        "num_heads x head_dim other than hidden_size": config.num_heads * config.head_dim
        != config.hidden_size,
        "patch_size": image.config.patch_size != 1,
        "encoder_margin": image.config.encoder_margin is not None,
        "l2_normalized codes": image.config.l2_normalized,
    }
    if found := [name for name, present in odd.items() if present]:
        raise CheckpointError(
            f"{folder} has {', '.join(found)}, which Chameleon's code does not know: it cannot be "
            "written in a layout of Chameleon"
        )

"""Texts of diffusion models: our own encoder and foreign ones, "" and texts that are too long."""

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch

from genvlm.config.text_encoder import FrozenTextEncoderConfig, SmallTextEncoderConfig
from genvlm.errors import CheckpointError, ConfigError, TokenError
from genvlm.models.text_encoder import Texts, build_texts, small_texts
from genvlm.testing.tiny import tiny_text_tokenizer
from genvlm.testing.tiny_diffusion import write_tiny_text_encoder

SMALL = SmallTextEncoderConfig(hidden_size=16, num_layers=2, num_heads=2, max_tokens=16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {
        "clip": write_tiny_text_encoder(root / "clip"),
        "t5": write_tiny_text_encoder(root / "t5", "t5"),
    }


@pytest.fixture(params=["small", "clip", "t5"])
def texts(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Texts:
    if request.param == "small":
        return small_texts(SMALL, tiny_text_tokenizer(), seed=0)
    return build_texts(FrozenTextEncoderConfig(path=str(folders[request.param]), max_tokens=16))


@torch.no_grad()
def test_the_text_that_says_nothing_has_a_token_and_is_like_no_other(texts: Texts) -> None:
    pieces, mask = texts.coder.encode(["", "a red bar"])
    assert mask[0].any()
    assert mask[0].sum() < mask[1].sum()
    states = texts.encoder(pieces, mask)
    assert states.shape == (*pieces.shape, texts.width)
    last = [state[seen][-1] for state, seen in zip(states, mask, strict=True)]
    assert (last[0] - last[1]).abs().max() > 1e-4


@torch.no_grad()
def test_padding_changes_no_state(texts: Texts) -> None:
    alone = texts.encoder(*texts.coder.encode(["a red"]))
    pieces, mask = texts.coder.encode(["a red", "a red square"])
    among = texts.encoder(pieces, mask)[0][mask[0]]
    torch.testing.assert_close(among, alone[0], atol=1e-5, rtol=0)


def test_a_text_is_never_cut(texts: Texts) -> None:
    def encoded(num_words: int) -> torch.Tensor:
        return texts.coder.encode([" ".join(["red"] * num_words)])[0]

    per_word = encoded(2).shape[1] - encoded(1).shape[1]
    most = 1 + (16 - encoded(1).shape[1]) // per_word
    assert encoded(most).shape[1] > 16 - per_word
    with pytest.raises(TokenError, match=r"'red red .* has \d+ tokens, .* takes 16"):
        texts.coder.encode(["a red bar", " ".join(["red"] * (most + 1))])


def test_no_texts_are_no_rows(texts: Texts) -> None:
    pieces, mask = texts.coder.encode([])
    assert len(pieces) == len(mask) == 0


@torch.no_grad()
def test_a_small_encoder_reads_both_ways_and_in_order() -> None:
    texts = small_texts(SMALL, tiny_text_tokenizer(), seed=0)
    for parameter in texts.encoder.parameters():
        parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    a, b, turned = (
        texts.encoder(*texts.coder.encode([t])) for t in ("a red bar", "a red page", "red a bar")
    )
    assert (a[0, 1] - b[0, 1]).abs().max() > 1e-3  # the first word knows the last
    assert (a.mean(1) - turned.mean(1)).abs().max() > 1e-3


def test_a_small_encoder_begins_as_its_seed_says() -> None:
    one, same, other = (
        small_texts(SMALL, tiny_text_tokenizer(), seed=s).encoder for s in (1, 1, 2)
    )
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_the_fingerprint_follows_tokenizer_and_limit(folders: dict[str, Path]) -> None:
    found = {
        build_texts(FrozenTextEncoderConfig(path=str(path), max_tokens=limit)).coder.fingerprint
        for path in folders.values()
        for limit in (10, 12)
    } | {
        small_texts(
            SmallTextEncoderConfig(hidden_size=16, num_layers=1, num_heads=2, max_tokens=limit),
            tiny_text_tokenizer(), seed=0,
        ).coder.fingerprint
        for limit in (10, 12)
    }  # fmt: skip
    assert len(found) == 6


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_a_foreign_encoder_equals_the_library_and_stays_frozen(
    folders: dict[str, Path], kind: Literal["clip", "t5"]
) -> None:
    import transformers

    cls = {"clip": transformers.CLIPTextModel, "t5": transformers.T5EncoderModel}[kind]
    library = cls.from_pretrained(folders[kind]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    texts = build_texts(FrozenTextEncoderConfig(path=str(folders[kind]), max_tokens=16))
    both = ["a red bar", "a blue square on a page"]
    read = tokenizer(both, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = library(input_ids=read.input_ids, attention_mask=read.attention_mask)
    pieces, mask = texts.coder.encode(both)
    texts.encoder.train()
    assert not any(module.training for module in texts.encoder.modules())
    states = texts.encoder(pieces, mask)
    assert not states.requires_grad
    torch.testing.assert_close(states[mask], expected.last_hidden_state[mask])


def test_a_text_that_spells_a_control_token_is_refused(folders: dict[str, Path]) -> None:
    texts = build_texts(FrozenTextEncoderConfig(path=str(folders["clip"]), max_tokens=16))
    with pytest.raises(TokenError, match="spells the text encoder's control token '</s>'"):
        texts.coder.encode(["a red</s> bar"])


def test_more_tokens_than_a_foreign_encoder_reads_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens is 17, and .* reads at most 16"):
        build_texts(FrozenTextEncoderConfig(path=str(folders["clip"]), max_tokens=17))


def edited(folder: Path, target: Path, **changes: object) -> FrozenTextEncoderConfig:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return FrozenTextEncoderConfig(path=str(target), max_tokens=16)


def test_a_folder_with_code_of_its_own_or_of_nobody_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    coded = edited(folders["clip"], tmp_path / "coded", auto_map={"AutoModel": "code.Mine"})
    with pytest.raises(CheckpointError, match="names code of its own"):
        build_texts(coded)
    unknown = edited(folders["clip"], tmp_path / "unknown", architectures=["os"])
    with pytest.raises(CheckpointError, match="is a 'os', which transformers does not know"):
        build_texts(unknown)


def test_a_folder_that_lacks_something_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    larger = edited(folders["clip"], tmp_path / "larger", num_hidden_layers=2)
    with pytest.raises(CheckpointError, match="lacks 16 tensors of its model"):
        build_texts(larger)
    without = edited(folders["clip"], tmp_path / "without")
    (tmp_path / "without" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no CLIPTextModel"):
        build_texts(without)
    empty = FrozenTextEncoderConfig(path=str(tmp_path), max_tokens=16)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        build_texts(empty)

"""Frozen language models: prefixes, the text half of our own, and folders that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from genvlm.config.projector import ForeignLanguageConfig, OwnLanguageConfig
from genvlm.errors import CheckpointError, ConfigError, TokenError
from genvlm.models.auxiliary.language_model import ForeignLanguageModel, Language
from genvlm.models.pretrained import load_pretrained, save_pretrained
from genvlm.models.text_only import build_language
from genvlm.scoring.autoregressive import Likelihood
from genvlm.scoring.projector import score_behind
from genvlm.testing.foreign_models import tiny_tokenizer
from genvlm.testing.tiny import tiny_pretrained
from genvlm.testing.tiny_projector import LanguageKind, write_tiny_language_model
from genvlm.tokenization.document import Text

TEXTS = ["a red square", "a blue bar on a white page"]


def written(folder: Path, kind: LanguageKind) -> Language:
    if kind == "genvlm":
        save_pretrained(tiny_pretrained(), folder, "A toy.\n")
        return build_language(OwnLanguageConfig(path=str(folder)))
    return build_language(ForeignLanguageConfig(path=str(write_tiny_language_model(folder, kind))))


@pytest.fixture(scope="module", params=["llama", "gpt2", "genvlm"])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Language:
    return written(tmp_path_factory.mktemp("language"), request.param)


def vectors_of(language: Language, seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, language.model.width, generator=generator)


@torch.no_grad()
def test_rows_behind_a_prefix_are_those_of_whole_rows(language: Language) -> None:
    front, rows = vectors_of(language, 0, 1, 5), vectors_of(language, 1, 3, 4)
    prefix = language.model.prefill(front)
    assert prefix.past is not None
    whole = language.model(torch.cat([front.expand(3, -1, -1), rows], 1), 5)
    for _ in range(2):  # a prefix serves any number of rows
        found = language.model.behind(prefix, rows)
        torch.testing.assert_close(found, whole[:, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(prefix.logits, whole[:1, 0], atol=1e-5, rtol=0)
    if isinstance(language.model, ForeignLanguageModel):  # which may keep no keys and values
        again = language.model.behind(prefix._replace(past=None), rows)
        torch.testing.assert_close(again, found, atol=1e-5, rtol=0)


def test_gradients_reach_the_vectors_and_no_weight(language: Language) -> None:
    rows = vectors_of(language, 0, 2, 5).requires_grad_(True)
    language.model.train()
    language.model(rows, 2).square().sum().backward()
    assert rows.grad is not None
    assert rows.grad[:, :4].abs().min() > 0
    assert not any(p.requires_grad or p.grad is not None for p in language.model.parameters())
    assert not any(module.training for module in language.model.modules())


def test_a_text_comes_back_from_its_tokens(language: Language) -> None:
    for text in TEXTS:
        ids = language.coder.encode(text)
        assert language.coder.end not in ids
        assert language.coder.decode([*ids, language.coder.end]) == text
    with pytest.raises(TokenError, match="text is empty"):
        language.coder.encode(" ")


def test_begins_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    assert written(tmp_path / "llama", "llama").coder.begin == (1,)
    assert written(tmp_path / "gpt2", "gpt2").coder.begin == ()


@torch.no_grad()
def test_our_own_transformer_gives_what_it_gives_of_text(tmp_path: Path) -> None:
    """Over text pieces and the end alone: p(text) of its own scorer with BOI left out."""
    language = written(tmp_path, "genvlm")
    pretrained, coder = load_pretrained(tmp_path), language.coder
    vocabulary = pretrained.vocabulary
    begin = language.model.embed(torch.tensor([list(coder.begin)]))
    rows = [[*coder.encode(text), coder.end] for text in TEXTS]
    found = score_behind(language.model, language.model.prefill(begin), rows)
    for text, log_probs in zip(TEXTS, found, strict=True):
        encoded = Likelihood(pretrained).encode([Text(text)])
        ids = torch.from_numpy(encoded.token_ids)[None]
        states = pretrained.model(ids[:, :-1], positions=torch.from_numpy(encoded.positions)[None])
        logits = pretrained.model.head(states[0])
        allowed = [vocabulary.eos, *vocabulary.text_range]
        normalizer = logits[:, allowed].logsumexp(-1)
        expected = logits.gather(1, ids[0, 1:, None])[:, 0] - normalizer
        torch.testing.assert_close(torch.from_numpy(log_probs), expected, atol=1e-5, rtol=0)


def test_a_language_model_without_an_embedding_layer_is_refused(tmp_path: Path) -> None:
    from transformers import CpmAntConfig, CpmAntForCausalLM

    config = CpmAntConfig(
        vocab_size=32, hidden_size=16, num_attention_heads=2, dim_head=8, dim_ff=16,
        num_hidden_layers=1, prompt_types=2, prompt_length=2, segment_types=2,
    )  # fmt: skip
    CpmAntForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no embedding layer to project into: choose"):
        build_language(ForeignLanguageConfig(path=str(tmp_path)))


def test_a_model_that_reads_ahead_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    shape: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "initializer_range": 0.5,
    }  # fmt: skip
    BertLMHeadModel(BertConfig(**shape)).save_pretrained(tmp_path / "bert")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="reads the tokens behind the one it predicts"):
        build_language(ForeignLanguageConfig(path=str(tmp_path / "bert")))


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    write_tiny_language_model(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    content = json.loads(path.read_text())
    del content["eos_token"]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="names no eos_token"):
        build_language(ForeignLanguageConfig(path=str(tmp_path)))


def test_a_text_that_spells_a_control_token_is_refused(tmp_path: Path) -> None:
    coder = written(tmp_path, "llama").coder
    with pytest.raises(TokenError, match="control token '</s>'"):
        coder.encode("a red </s> square")


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        build_language(ForeignLanguageConfig(path=str(tmp_path)))

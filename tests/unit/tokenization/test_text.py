import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.errors import CheckpointError, TokenError
from genvlm.testing.tiny import tiny_text_tokenizer
from genvlm.tokenization.text import (
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    TextTokenizer,
    load_text_tokenizer,
    train_sentencepiece,
)

SENTENCEPIECE = tiny_text_tokenizer()


def tiny_json() -> bytes:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["a red square", "a blue bar"], trainer)
    return tokenizer.to_str().encode()


JSON = HuggingFaceTokenizer(tiny_json())
both = pytest.mark.parametrize("tokenizer", [SENTENCEPIECE, JSON], ids=["model", "json"])
# SentencePiece's own sign for a blank: the one character that it cannot tell from one.
BLANK = "\u2581"
any_text = st.text(min_size=1).filter(lambda t: t.strip())


@both
@settings(deadline=None, max_examples=300)
@given(text=any_text.filter(lambda t: BLANK not in t))
def test_any_unicode_text_round_trips(tokenizer: TextTokenizer, text: str) -> None:
    pieces = tokenizer.encode(text)
    assert all(0 <= p < tokenizer.size for p in pieces)
    assert tokenizer.decode(pieces) == text


@both
@pytest.mark.parametrize(
    "text",
    [" two  blanks ", "a\tb\nc", "👩‍🚀 é e\u0301", "\u200b\ufeffa", "<0x41>", "<unk>", "x\0y"],
)
def test_awkward_text_round_trips(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_only_sentencepiece_takes_its_sign_for_a_blank_as_one() -> None:
    text = f"x{BLANK}y"
    assert SENTENCEPIECE.decode(SENTENCEPIECE.encode(text)) == "x y"
    assert JSON.decode(JSON.encode(text)) == text


@both
@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_text_without_content_is_refused(tokenizer: TextTokenizer, text: str) -> None:
    with pytest.raises(TokenError, match="empty"):
        tokenizer.encode(text)


@both
def test_a_lone_surrogate_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(TokenError, match="not valid Unicode"):
        tokenizer.encode("a\ud800")


@both
def test_saving_keeps_every_byte(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_text_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("a red square") == tokenizer.encode("a red square")
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    loaded.save(tmp_path)
    assert file.read_bytes() == before


def test_the_same_sentences_give_the_same_model() -> None:
    sentences = ["a red square", "a blue bar", "a green corner on a page"] * 3
    first, second = (train_sentencepiece(sentences, vocab_size=280) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.size == 280


def test_a_word_of_the_corpus_is_one_piece() -> None:
    assert len(SENTENCEPIECE.encode("white")) < len("white")


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no text tokenizer at"):
        load_text_tokenizer(tmp_path / "missing.model")
    with pytest.raises(CheckpointError, match="must hold one of"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "bad.model").write_bytes(b"not a model at all")
    with pytest.raises(CheckpointError, match=r"bad\.model is not a SentencePiece model"):
        load_text_tokenizer(tmp_path / "bad.model")
    for content in (b"\xff\xfe", json.dumps({"version": "1.0"}).encode()):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.json is not"):
            load_text_tokenizer(tmp_path / "bad.json")


def test_a_folder_with_both_kinds_is_refused(tmp_path: Path) -> None:
    SENTENCEPIECE.save(tmp_path)
    JSON.save(tmp_path)
    with pytest.raises(CheckpointError, match="it holds 2"):
        load_text_tokenizer(tmp_path)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match="is not a SentencePiece model"):
        SentencePieceTokenizer(b"")


def test_truncation_padding_and_gaps_of_a_json_file_do_no_harm() -> None:
    content = json.loads(tiny_json())
    content["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    content["padding"] = {
        "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    vocabulary = content["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    vocabulary[last] += 10
    tokenizer = HuggingFaceTokenizer(json.dumps(content).encode())
    assert tokenizer.size == vocabulary[last] + 1
    assert tokenizer.decode(tokenizer.encode("a red square")) == "a red square"

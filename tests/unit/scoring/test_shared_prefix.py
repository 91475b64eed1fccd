"""Texts that share the keys and values of their image score as if each had read it anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genvlm.config.transformer import TransformerConfig
from genvlm.generation.sampling import mask_logits
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.layers import TokenHead
from genvlm.scoring import autoregressive
from genvlm.scoring.autoregressive import Likelihood
from genvlm.testing.tiny import tiny_pretrained, tiny_transformer_config
from genvlm.tokenization.document import Document, Image, Text, encode_document
from genvlm.tokenization.vocabulary import Modality

SHAPES = {
    "positions of rows and columns, 2 of 4 heads": tiny_transformer_config(),
    "positions by index alone": tiny_transformer_config(rotary_dims=None),
    "1 of 4 heads": tiny_transformer_config(num_kv_heads=1, rotary_dims=None),
    "all heads, LayerNorm per head, behind branches": tiny_transformer_config(
        num_kv_heads=4, qk_norm="layer", qk_norm_per_head=True, norm_order="swin"
    ),
}
TEXTS = ["a", "a red square", "blue", "a green corner on a white page", "a yellow bar on a page"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def pretrained(config: TransformerConfig, dtype: torch.dtype) -> PretrainedModel:
    whole = tiny_pretrained(dtype=dtype)
    model = build_transformer(config, whole.vocabulary.size, seed=1).to(dtype).eval()
    return replace(whole, model=model.requires_grad_(False))


def images(num: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 16, (num, 4, 4)))


def unshared(
    p: PretrainedModel, codes: np.ndarray | None, text: str, *, normalization: str
) -> np.ndarray:
    """One forward pass over the whole document and a softmax over all logits."""
    segments = [*([Image(codes)] if codes is not None else []), Text(text)]
    document = encode_document(
        Document(id="d", segments=segments), p.vocabulary, p.text_tokenizer, grid=(4, 4)
    )
    ids = torch.from_numpy(document.token_ids)
    hidden = p.model(ids[None, :-1], positions=torch.from_numpy(document.positions)[None])
    logits = p.model.head(hidden[0])
    allowed = p.vocabulary.text_state_range
    bounds = [allowed.start, allowed.stop] if normalization == "grammar" else [0, len(logits[0])]
    log_probs = mask_logits(logits, torch.tensor([bounds]))
    chosen = (document.modality == Modality.TEXT) | (document.token_ids == p.vocabulary.eos)
    return log_probs[torch.arange(len(logits)), ids[1:]].numpy()[chosen[1:]]


def compare(p: PretrainedModel, pairs: list, *, normalization: str = "grammar") -> None:
    scored = Likelihood(p, normalization).score_text_given_image(pairs)
    tolerance = TOLERANCE[p.model.embedding.weight.dtype]
    for (codes, text), found in zip(pairs, scored, strict=True):
        expected = unshared(p, codes, text, normalization=normalization)
        np.testing.assert_allclose(found.log_probs, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_shared_images_change_no_score(config: TransformerConfig, dtype: torch.dtype) -> None:
    p, pictures = pretrained(config, dtype), images(3)
    pairs = [(None, "blue"), *((codes, text) for text in TEXTS for codes in pictures)]
    compare(p, pairs)
    compare(p, pairs[:3], normalization="vocabulary")


def test_images_with_unequal_numbers_of_texts_keep_the_order_of_the_pairs() -> None:
    p, (first, second, third) = pretrained(tiny_transformer_config(), torch.float64), images(3)
    pairs = [(third, TEXTS[0]), *((first, text) for text in TEXTS), (None, TEXTS[3])]
    pairs += [(second, TEXTS[1]), (third, TEXTS[2]), (first, TEXTS[0])]
    order = np.random.default_rng(1).permutation(len(pairs))
    compare(p, [pairs[i] for i in order])


@pytest.mark.parametrize("scores_per_batch", [1, 500, 2**22])
@pytest.mark.parametrize("tokens_per_batch", [1, 40])
def test_small_batches_change_no_score(
    tokens_per_batch: int, scores_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoregressive, "_SCORES_PER_BATCH", scores_per_batch)
    p = pretrained(tiny_transformer_config(), torch.float64)
    pairs = [(codes, text) for codes in images(4) for text in TEXTS]
    whole = Likelihood(p).score_text_given_image(pairs)
    parts = Likelihood(p, tokens_per_batch=tokens_per_batch).score_text_given_image(pairs)
    for a, b in zip(parts, whole, strict=True):
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-10, rtol=0)


def test_every_image_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    p, pictures, read = pretrained(tiny_transformer_config(), torch.float32), images(2), []
    p.model.embedding.register_forward_hook(lambda _, ids, __: read.append(ids[0].numel()))
    Likelihood(p).score_text_given_image([(codes, t) for codes in pictures for t in TEXTS])
    pieces = [len(p.text_tokenizer.encode(t)) for t in TEXTS]
    of_images = 2 * (1 + p.grammar.image_tokens)
    # What is left is texts, padded to the longest.
    assert read[0] == of_images
    assert sum(read) <= of_images + 2 * len(TEXTS) * max(pieces)


@pytest.mark.parametrize("rows_per_piece", [1, 3, 10])
def test_a_head_within_a_range_equals_the_masked_softmax(
    rows_per_piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genvlm.nn.layers._MAX_SCORED", 0)
    monkeypatch.setattr("genvlm.nn.layers._PIECE_ROWS", rows_per_piece)
    monkeypatch.setattr("genvlm.nn.layers._PIECE_IDS", 4)
    torch.manual_seed(0)
    head, hidden = TokenHead(6, 40).double(), torch.randn(10, 6, dtype=torch.float64)
    targets = torch.arange(10) % 9 + 5
    logits = mask_logits(head(hidden), torch.tensor([[5, 14]]))
    part = head(hidden, targets, ids=range(5, 14))
    torch.testing.assert_close(part.log_prob, logits.gather(1, targets[:, None])[:, 0])
    assert head(hidden[:0], targets[:0], ids=range(5, 14)).log_prob.numel() == 0

"""Next-token loss with noise on the codes that are read."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genvlm.data.batches import Batch, collate
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Document, Image, Text, encode_document
from genvlm.tokenization.vocabulary import Modality
from genvlm.training.objectives.next_token import NextTokenObjective

PRETRAINED = tiny_pretrained()
CODES = PRETRAINED.vocabulary.image_range


def _batch(num: int = 4) -> Batch:
    rng = np.random.default_rng(0)
    documents = [
        encode_document(
            Document(id=str(i), segments=[Text("red bar"), Image(rng.integers(0, 16, (4, 4)))]),
            PRETRAINED.vocabulary,
            PRETRAINED.text_tokenizer,
            grid=(4, 4),
        )
        for i in range(num)
    ]
    return collate(documents, PRETRAINED.vocabulary.pad, 1.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Sequence[torch.Tensor]:
    """What the model was given, in turn."""
    seen: list[torch.Tensor] = []
    forward = MixedModalTransformer.forward

    def spy(self: MixedModalTransformer, token_ids: torch.Tensor, **more: object) -> torch.Tensor:
        seen.append(token_ids)
        return forward(self, token_ids, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MixedModalTransformer, "forward", spy)
    return seen


def _objective(noise: float) -> NextTokenObjective:
    return NextTokenObjective(PRETRAINED.model, 0.0, code_noise=noise, codes=CODES).train()


def test_noise_replaces_its_share_of_the_codes_and_nothing_else(
    reads: Sequence[torch.Tensor],
) -> None:
    batch = _batch(200)
    before = batch.token_ids.clone()
    torch.manual_seed(0)
    _objective(0.5)(batch)
    read, true = reads[0], batch.token_ids[:, :-1]
    image = batch.modality[:, :-1] == Modality.IMAGE
    assert torch.equal(read[~image], true[~image])
    assert set(read[image].unique().tolist()) == set(CODES)
    # Half are drawn, and one of 16 draws is the code itself.
    assert (read != true)[image].float().mean() == pytest.approx(0.5 * 15 / 16, abs=0.03)
    assert torch.equal(batch.token_ids, before)


def test_the_codes_to_be_predicted_stay_what_they_are() -> None:
    batch = _batch()
    torch.manual_seed(0)
    noisy = _objective(1.0)(batch)
    assert noisy.counts == _objective(0.0)(batch).counts
    assert noisy.terms["image"] != _objective(0.0)(batch).terms["image"]


def test_there_is_no_noise_outside_of_training(reads: Sequence[torch.Tensor]) -> None:
    batch = _batch()
    _objective(1.0).eval()(batch)
    assert torch.equal(reads[0], batch.token_ids[:, :-1])

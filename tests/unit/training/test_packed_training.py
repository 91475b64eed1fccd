"""Documents in one row are as alone: log-probabilities, losses, gradients."""

from dataclasses import replace

import pytest
import torch

from genvlm.config.data import DataConfig, ScenesSource
from genvlm.data.batches import Batch, BatchSource, collate, collate_rows
from genvlm.data.sources import Sample
from genvlm.models.build import build_transformer
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.models.pretrained import build_vocabulary
from genvlm.nn.packed_rows import document_mask, places_in_documents
from genvlm.testing.corpora import corpus_of
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_text_tokenizer,
    tiny_transformer_config,
    tiny_video_tokenizer,
)
from genvlm.tokenization.document import EncodedDocument
from genvlm.tokenization.vocabulary import Modality
from genvlm.training.objectives.next_token import NextTokenObjective

TEXT, IMAGE = tiny_text_tokenizer(), tiny_image_tokenizer()
VOCABULARY = build_vocabulary(TEXT, IMAGE, video=tiny_video_tokenizer(seed=1))
ROW = 128
ROTARY = [(2, 2, 2, 2), None]


def _source() -> BatchSource:
    generator = torch.Generator().manual_seed(0)
    pictures = list(torch.randint(0, 16, (4, 4, 4), generator=generator).numpy())
    clips = list(torch.randint(0, 16, (2, 2, 4, 4), generator=generator).numpy())
    samples = []
    for i in range(60):
        text = f"{i} red" + " bar" * (i % 7)
        segments = [(text, i % 6), (text,), (text, i % 6, "square")][i % 3]
        kind = "pair" if i % 3 == 0 else "document"
        samples.append(Sample(str(i), segments, kind))
    return BatchSource(
        corpus=corpus_of(samples, [*pictures, *clips]),
        config=DataConfig(sources=(ScenesSource(num=1),), packing=True),
        vocabulary=VOCABULARY,
        text_tokenizer=TEXT,
        grid=IMAGE.grid,
        max_tokens=ROW,
        global_batch_size=6,
        seed=0,
        modality_weights=(1.0, 1.0, 0.5, 0.25),
    )


def _model(rotary_dims: tuple[int, int, int, int] | None) -> MixedModalTransformer:
    config = tiny_transformer_config(context_length=ROW, rotary_dims=rotary_dims)
    return build_transformer(config, VOCABULARY.size, seed=0)


def _documents(batch: Batch) -> list[EncodedDocument]:
    """Cut out of their rows again."""
    found = []
    for row, numbers in enumerate(batch.document_ids):
        for number in range(int(numbers.max()) + 1):
            inside = numbers == number
            columns = (batch.token_ids, batch.modality, batch.positions, batch.loss_weights)
            found.append(EncodedDocument(*(c[row][inside].numpy() for c in columns)))
    return found


def _log_probs(model: MixedModalTransformer, batch: Batch, **packed: object) -> torch.Tensor:
    """Of each token given those before it; (batch, tokens - 1)."""
    hidden = model(batch.token_ids[:, :-1], positions=batch.positions, **packed)
    log_probs = model.head(hidden).log_softmax(-1)
    return log_probs.gather(-1, batch.token_ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize("rotary_dims", ROTARY)
def test_each_token_of_a_packed_document_is_as_likely_as_alone(
    rotary_dims: tuple[int, int, int, int] | None,
) -> None:
    (batch,) = _source().batch(0)
    model = _model(rotary_dims)
    ids = batch.document_ids[:, :-1]
    with torch.no_grad():
        packed = _log_probs(model, batch, mask=document_mask(ids), indices=places_in_documents(ids))
        row_wise = []
        for row, numbers in enumerate(batch.document_ids):
            for number in range(int(numbers.max()) + 1):
                inside = (numbers[1:] == number) & (numbers[:-1] == number)
                row_wise.append(packed[row][inside])
        documents = _documents(batch)
        assert len(documents) > 2 * len(batch.token_ids)
        for document, found in zip(documents, row_wise, strict=True):
            alone = _log_probs(model, collate([document], VOCABULARY.pad, 1.0))[0]
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
        # Without the mask it would show.
        unmasked = _log_probs(model, batch, indices=places_in_documents(ids))
        learned = batch.loss_weights[:, 1:] > 0
        assert (unmasked - packed)[learned].abs().max() > 1e-3


@pytest.mark.parametrize("rotary_dims", ROTARY)
def test_packed_rows_have_the_losses_and_gradients_of_separate_ones(
    rotary_dims: tuple[int, int, int, int] | None,
) -> None:
    (batch,) = _source().batch(1)
    separate = collate(_documents(batch), VOCABULARY.pad, batch.loss_denominator)
    assert len(separate.token_ids) > len(batch.token_ids)
    losses, gradients = [], []
    for rows in (batch, separate):
        objective = NextTokenObjective(_model(rotary_dims), 1e-4)
        loss = objective(rows)
        (loss.weighted_sum / rows.loss_denominator).backward()
        losses.append(loss)
        gradients.append({n: p.grad for n, p in objective.named_parameters()})
    assert losses[0].counts == losses[1].counts
    for name, total in losses[0].terms.items():
        torch.testing.assert_close(total, losses[1].terms[name], atol=1e-3, rtol=1e-6)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


def test_a_row_of_padding_alone_gives_no_loss_and_no_gradient() -> None:
    (batch,) = _source().batch(0)
    documents = _documents(batch)[:2]
    objective = NextTokenObjective(_model((2, 2, 2, 2)), 1e-4)
    empty = objective(collate_rows([[]], VOCABULARY.pad, 1.0, ROW))
    assert empty.weighted_sum.item() == 0
    empty.weighted_sum.backward()
    assert all(not p.grad.any() for p in objective.parameters())
    one, two = (
        objective(collate_rows(rows, VOCABULARY.pad, 1.0, ROW)).weighted_sum
        for rows in ([documents], [documents, []])
    )
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-6)


def test_codes_of_videos_have_a_weight_of_their_own() -> None:
    found = {}
    for step in range(3):
        (batch,) = _source().batch(step)
        for kind in Modality:
            weights = batch.loss_weights[(batch.modality == kind) & (batch.loss_weights > 0)]
            found.setdefault(kind, set()).update(weights.tolist())
        assert batch.loss_denominator == batch.loss_weights.sum().item()
    assert found == {
        Modality.CONTROL: {1.0}, Modality.TEXT: {1.0}, Modality.IMAGE: {0.5}, Modality.VIDEO: {0.25}
    }  # fmt: skip


def test_a_batch_tells_the_model_which_frame_a_code_is_of() -> None:
    (batch,) = _source().batch(0)
    is_video = batch.modality == Modality.VIDEO
    assert set(batch.positions[is_video][:, 0].tolist()) == {0, 1}
    ids = batch.document_ids[:, :-1]
    packed = {"mask": document_mask(ids), "indices": places_in_documents(ids)}
    still = batch.positions.clone()
    still[..., 0] = still[..., 0].clamp(max=0)
    with torch.no_grad():
        model = _model((2, 2, 2, 2))
        moved = _log_probs(model, batch, **packed)
        of_still = _log_probs(model, replace(batch, positions=still), **packed)
    changed = ((moved - of_still).abs() > 1e-4) & (batch.loss_weights[:, 1:] > 0)
    # Within a clip the second frame is told from the first; documents without one are the same.
    assert changed[(batch.positions[:, 1:, 0] == 1)].float().mean() > 0.9
    with_video = {
        (row, int(batch.document_ids[row, at])) for row, at in is_video.nonzero().tolist()
    }
    for row, at in changed.nonzero().tolist():
        assert (row, int(batch.document_ids[row, at + 1])) in with_video

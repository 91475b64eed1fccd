"""FLAVA's losses (Singh et al. 2022, section 3.3), and MaskVLM's. B pairs, P patches, T tokens."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.config.masked import MaskedObjectiveConfig
from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.pairs import as_pixels
from genvlm.models.auxiliary.masked import MaskedEncoders
from genvlm.training.objectives.contrastive import contrast
from genvlm.training.objectives.losses import Losses


class _Guess(NamedTuple):
    """How well what is masked is told."""

    loss: Float[Tensor, ""]
    """Sum over pairs of the mean over what each masks, in nats."""
    total: Float[Tensor, ""]
    """Sum over all that is masked, detached."""
    num: Float[Tensor, ""]


class MaskedObjective(nn.Module):
    """The sum of five losses, each a mean over what a pair masks, or over pairs.

    What is masked is drawn from torch's own generator, which training seeds at every step. Half of
    the pairs, every other one, are matched with the text behind theirs in the micro-batch.
    """

    def __init__(self, model: MaskedEncoders, config: MaskedObjectiveConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: CaptionBatch) -> Losses:
        """Losses of one micro-batch. Raises TrainingError as `contrast`."""
        assert batch.codes is not None
        model, weights = self.model, self.config
        pixels = as_pixels(batch.images, model.image_projection.weight.dtype)
        patches = draw_masked(torch.ones_like(batch.codes, dtype=torch.bool), weights.image_share)
        there = batch.mask.clone()
        there[:, 0] = False  # a begin token tells nothing
        pieces = draw_masked(there, weights.text_share)
        images, texts = (
            model.read_images(pixels, patches),
            model.read_texts(batch.pieces, batch.mask, pieces),
        )
        whole_images = model.read_images(pixels)
        whole_texts = model.read_texts(batch.pieces, batch.mask)
        if weights.multimodal == "one_masked":
            by_image = model.read_both(images, whole_texts, batch.mask)
            by_text = model.read_both(whole_images, texts, batch.mask)
        else:
            by_image = by_text = model.read_both(images, texts, batch.mask)
        split = 1 + images.shape[1]
        guesses = {
            "masked_image": _guess(model.code_head, images, batch.codes, patches),
            "masked_text": _guess(model.piece_head, texts, batch.pieces, pieces),
            "joint_image": _guess(
                model.joint_code_head, by_image[:, 1:split], batch.codes, patches
            ),
            "joint_text": _guess(model.joint_piece_head, by_text[:, split:], batch.pieces, pieces),
        }
        found = contrast(
            model.embed_images(whole_images), model.embed_texts(whole_texts, batch.mask),
            model.scale, allowed=batch.allowed, chunk_rows=weights.chunk_rows,
        )  # fmt: skip
        matching, right = self._match(batch, whole_images, whole_texts)
        loss = (
            weights.image_weight * guesses["masked_image"].loss
            + weights.text_weight * guesses["masked_text"].loss
            + weights.multimodal_weight * guesses["joint_image"].loss
            + weights.multimodal_weight * guesses["joint_text"].loss
            + weights.contrastive_weight * found.loss
            + weights.matching_weight * matching
        )
        num = torch.tensor(float(len(pixels)), device=pixels.device)
        terms = {name: guess.total for name, guess in guesses.items()}
        counts = {name: guess.num for name, guess in guesses.items()}
        terms |= {"infonce": found.loss.detach(), "matching": matching.detach()}
        counts |= {"infonce": num, "matching": num}
        means = {**found.means, "matching_right": torch.stack([right, num])}
        return Losses(loss, terms, counts, means, {})

    def _match(
        self, batch: CaptionBatch, images: Tensor, texts: Tensor
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Binary cross-entropy in nats, and how many pairs are judged right."""
        num = len(images)
        own = torch.arange(num, device=images.device)
        given = torch.where(own % 2 == 0, own, (own + 1) % num)
        # Equal captions of two pictures match both.
        is_match = (batch.pieces[given] == batch.pieces).all(1).to(images.dtype)
        both = self.model.read_both(images, texts[given], batch.mask[given])
        logits = self.model.match_head(both[:, 0])[:, 0].to(images.dtype)
        right = ((logits > 0) == (is_match > 0)).sum().float()
        loss = F.binary_cross_entropy_with_logits(logits, is_match, reduction="sum")
        return loss, right.detach()


def draw_masked(there: Bool[Tensor, "batch places"], share: float) -> Bool[Tensor, "batch places"]:
    """Of each row's places a random share, rounded, and at least one where there is one."""
    num = there.sum(1)
    wanted = torch.minimum((num.double() * share).round().long().clamp(min=1), num)
    drawn = torch.rand(there.shape, device=there.device).masked_fill(~there, 2.0)
    rank = drawn.argsort(1).argsort(1)
    masked: Tensor = rank < wanted[:, None]
    return masked


def _guess(
    head: nn.Module,
    states: Float[Tensor, "batch places dim"],
    targets: Int[Tensor, "batch places"],
    masked: Bool[Tensor, "batch places"],
) -> _Guess:
    logits = head(states[masked])
    nll = F.cross_entropy(logits.float(), targets[masked], reduction="none")
    rows = masked.nonzero()[:, 0]
    num = masked.sum(1).clamp(min=1)
    loss = (nll / num[rows].to(nll.dtype)).sum()
    return _Guess(loss, nll.detach().sum(), masked.sum().float())

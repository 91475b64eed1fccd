"""Losses and logits of transformers' CLIP and SigLIP are theirs, with the gradients of scale and
bias."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genvlm.scoring.contrastive import ContrastiveScorer, ForeignEmbedder
from genvlm.scoring.protocols import Grid
from genvlm.scoring.transformers_folder import load_foreign
from genvlm.testing.foreign_models import CONTEXT, write_tiny_clip, write_tiny_siglip
from genvlm.testing.tiny import tiny_pairs
from genvlm.training.objectives.contrastive_losses import info_nce, pairwise_sigmoid

TEXTS, PICTURES = zip(*tiny_pairs()[:5], strict=True)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_loss_logits_and_gradients_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    write, options = {
        "clip": (write_tiny_clip, {"padding": True}),
        "siglip": (write_tiny_siglip, {"padding": "max_length", "max_length": CONTEXT}),
    }[name]
    model = write(tmp_path).train()
    processor = AutoProcessor.from_pretrained(tmp_path, local_files_only=True)
    inputs = processor(text=list(TEXTS), images=list(PICTURES), return_tensors="pt", **options)
    theirs = model(**inputs, return_loss=True)
    wanted = [model.logit_scale] + ([model.logit_bias] if name == "siglip" else [])
    expected = torch.autograd.grad(theirs.loss, wanted, retain_graph=True)
    images = F.normalize(theirs.image_embeds, dim=-1)
    texts = F.normalize(theirs.text_embeds, dim=-1)
    scale, own = model.logit_scale.exp(), range(len(TEXTS))
    if name == "clip":
        loss = info_nce(images, texts, scale, own)
    else:
        loss = pairwise_sigmoid(images, texts, scale, model.logit_bias, own)
    torch.testing.assert_close(loss / len(TEXTS), theirs.loss, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(loss / len(TEXTS), wanted), expected)
    scorer = ContrastiveScorer(ForeignEmbedder(load_foreign(tmp_path, "contrastive")), "logit")
    (scores,) = scorer.score([Grid(item_id="all", images=list(PICTURES), texts=list(TEXTS))])
    np.testing.assert_allclose(
        scores.values, theirs.logits_per_image.detach().numpy(), rtol=0, atol=1e-5
    )

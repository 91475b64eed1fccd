"""Scorers of models with one encoder for images and one for texts: CLIP, SigLIP and their like."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from PIL import Image

from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import EvaluationError, TokenError
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.scoring.transformers_folder import ForeignModel

Formula = Literal["cosine", "clipscore"]

_PREFIX = "A photo depicts "
_WEIGHT = 2.5
# SigLIP was trained on texts padded to its whole context, and reads the padding.
_PADDED_TO_CONTEXT = ("siglip", "siglip2")


class ContrastiveScorer:
    """Scorer by the angle between the embeddings of an image and of a text.

    `cosine` is the cosine similarity. `clipscore` is 2.5 max(cosine, 0) of texts that begin with
    "A photo depicts " (Hessel et al. 2021), so that all texts at more than 90 degrees tie.
    """

    def __init__(
        self, foreign: ForeignModel, formula: Formula = "cosine", *, batch_size: int = 32
    ) -> None:
        self._foreign, self._formula, self._batch_size = foreign, formula, batch_size
        self._prefix = _PREFIX if formula == "clipscore" else ""
        self._to_context = foreign.settings["model_type"] in _PADDED_TO_CONTEXT
        weight = {"weight": _WEIGHT} if formula == "clipscore" else {}
        self.info = ScorerInfo(
            name="CLIPScore" if formula == "clipscore" else "cosine",
            unit="arbitrary" if formula == "clipscore" else "cosine",
            settings={
                "formula": formula,
                "template": self._prefix + "{text}",
                "padding": "context" if self._to_context else "longest",
                **weight,
                **foreign.settings,
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct image and text is encoded once; cosines are float64.

        Raises:
            TokenError: a text is longer than the model's context or spells a control token.
            EvaluationError: an embedding is zero or not a number.
        """
        self._check_texts(grids)
        images = {image_digest(image): image for grid in grids for image in grid.images}
        texts = sorted({text for grid in grids for text in grid.texts})
        by_image = self._embed(sorted(images), lambda part: self._images([images[k] for k in part]))
        by_text = self._embed(texts, self._texts)
        results = []
        for grid in grids:
            cosines = np.array(
                [[by_image[image_digest(i)] @ by_text[t] for t in grid.texts] for i in grid.images]
            ).reshape(len(grid.images), len(grid.texts))
            if not np.isfinite(cosines).all():
                raise EvaluationError(
                    f"item {grid.item_id!r}: the model embeds an image or a text as zero or as "
                    "something that is not a number: load it with dtype float32"
                )
            clipped = _WEIGHT * np.maximum(cosines, 0)
            results.append(Scores(clipped if self._formula == "clipscore" else cosines))
        return results

    def _check_texts(self, grids: Sequence[Grid]) -> None:
        limit = self._foreign.text_context
        for grid in grids:
            for text in grid.texts:
                self._foreign.check_text(grid.item_id, text)
                tokens = self._foreign.processor.tokenizer(self._prefix + text, verbose=False)
                if limit is not None and len(tokens["input_ids"]) > limit:
                    raise TokenError(
                        f"item {grid.item_id!r}: the text {text[:60]!r} has "
                        f"{len(tokens['input_ids'])} tokens, more than the {limit} that the model "
                        "reads: shorten it or leave the item out"
                    )

    def _embed(
        self, wanted: Sequence[str], encode: Callable[[Sequence[str]], Any]
    ) -> dict[str, Float64[np.ndarray, " dims"]]:
        """Embeddings of length 1."""
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(wanted), self._batch_size):
            part = wanted[start : start + self._batch_size]
            with torch.no_grad():
                embedded = encode(part).pooler_output.double().cpu()
            # Zero over zero is NaN, which is reported with its item.
            rows = embedded / embedded.norm(dim=-1, keepdim=True)
            found |= zip(part, rows.numpy(), strict=True)
        return found

    def _images(self, images: Sequence[RGBImage]) -> Any:
        model, processor = self._foreign.model, self._foreign.processor
        pictures = [Image.fromarray(image) for image in images]
        inputs = processor(images=pictures, return_tensors="pt")
        return model.get_image_features(**inputs.to(model.device, model.dtype))

    def _texts(self, texts: Sequence[str]) -> Any:
        model, processor = self._foreign.model, self._foreign.processor
        padding: dict[str, object] = {"padding": True}
        if self._to_context:
            padding = {"padding": "max_length", "max_length": self._foreign.text_context}
        prefixed = [self._prefix + text for text in texts]
        inputs = processor(text=prefixed, return_tensors="pt", truncation=False, **padding)
        return model.get_text_features(**inputs.to(model.device))

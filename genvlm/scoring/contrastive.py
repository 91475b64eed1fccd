"""Scorers of models with one encoder for images and one for texts: CLIP, SigLIP and their like."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, assert_never

import numpy as np
import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor

from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import ConfigError, EvaluationError, TokenError
from genvlm.models.auxiliary.coca import CoCaModel
from genvlm.models.auxiliary.contrastive import ContrastiveModel
from genvlm.models.auxiliary.masked import MaskedModel
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores, Unit
from genvlm.scoring.transformers_folder import ForeignModel

Formula = Literal["cosine", "clipscore", "logit"]

NAMES: dict[Formula, tuple[str, Unit]] = {
    "cosine": ("cosine", "cosine"),
    "clipscore": ("CLIPScore", "arbitrary"),
    "logit": ("log p(text | image) / p(text)", "nats"),
}

_PREFIX = "A photo depicts "
_WEIGHT = 2.5
# SigLIP was trained on texts padded to its whole context, and reads the padding.
_PADDED_TO_CONTEXT = ("siglip", "siglip2")


class Embedder(Protocol):
    """Pictures and texts as vectors of any length."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What changes an embedding."""
        ...

    @property
    def scale(self) -> float:
        """The learned factor of cosines. Raises ConfigError: there is none."""
        ...

    def check(self, item_id: str, text: str) -> None:
        """Raises TokenError: a text longer than the context, or that spells a control token."""
        ...

    def embed_images(self, images: Sequence[RGBImage]) -> Float[Tensor, "images dims"]: ...

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dims"]: ...


class ContrastiveScorer:
    """Scorer by the angle between the embeddings of an image and of a text.

    `cosine` is the cosine similarity. `clipscore` is 2.5 max(cosine, 0) of texts that begin with
    "A photo depicts " (Hessel et al. 2021), so that all texts at more than 90 degrees tie. `logit`
    is the cosine times the model's learned scale: what a contrastive loss makes of log p(text |
    image) / p(text), but for a constant of each image (van den Oord et al. 2018), so that Bayes'
    rule on it is CLIP's zero-shot classifier.
    """

    def __init__(
        self, embedder: Embedder, formula: Formula = "cosine", *, batch_size: int = 32
    ) -> None:
        self._embedder, self._formula, self._batch_size = embedder, formula, batch_size
        self._prefix = _PREFIX if formula == "clipscore" else ""
        # Of the last call: a large gallery comes in parts, which have the same texts.
        self._by_text: dict[str, Float64[np.ndarray, " dims"]] = {}
        weight = {"weight": _WEIGHT} if formula == "clipscore" else {}
        name, unit = NAMES[formula]
        self.info = ScorerInfo(
            name=name,
            unit=unit,
            settings={
                "formula": formula,
                "template": self._prefix + "{text}",
                **weight,
                **embedder.settings,
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct image and text is encoded once, the same texts in the next call not again.

        Cosines are float64.

        Raises:
            TokenError: a text is longer than the model's context or spells a control token.
            EvaluationError: an embedding is zero or not a number.
        """
        for grid in grids:
            for text in grid.texts:
                self._embedder.check(grid.item_id, self._prefix + text)
        images = {image_digest(image): image for grid in grids for image in grid.images}
        texts = sorted({text for grid in grids for text in grid.texts})
        embed_images, embed_texts = self._embedder.embed_images, self._embedder.embed_texts
        by_image = self._embed(sorted(images), lambda part: embed_images([images[k] for k in part]))
        if list(self._by_text) != texts:  # some of them would stand in another batch
            self._by_text = self._embed(
                texts, lambda part: embed_texts([self._prefix + text for text in part])
            )
        by_text = self._by_text
        results = []
        for grid in grids:
            rows = [by_image[image_digest(image)] for image in grid.images]
            cosines = np.array([[row @ by_text[t] for t in grid.texts] for row in rows])
            cosines = cosines.reshape(len(grid.images), len(grid.texts))
            if not np.isfinite(cosines).all():
                raise EvaluationError(
                    f"item {grid.item_id!r}: the model embeds an image or a text as zero or as "
                    "something that is not a number: load it with dtype float32"
                )
            results.append(Scores(self._values(cosines)))
        return results

    def _values(self, cosines: Float64[np.ndarray, "images texts"]) -> np.ndarray:
        match self._formula:
            case "cosine":
                return cosines
            case "clipscore":
                return _WEIGHT * np.maximum(cosines, 0)
            case "logit":
                return self._embedder.scale * cosines
            case _:
                assert_never(self._formula)

    def _embed(
        self, wanted: Sequence[str], embed: Callable[[Sequence[str]], Tensor]
    ) -> dict[str, Float64[np.ndarray, " dims"]]:
        """Embeddings of length 1."""
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(wanted), self._batch_size):
            part = wanted[start : start + self._batch_size]
            embedded = embed(part).double().cpu()
            # Zero over zero is NaN, which is reported with its item.
            rows = embedded / embedded.norm(dim=-1, keepdim=True)
            found |= zip(part, rows.numpy(), strict=True)
        return found


class ForeignEmbedder:
    """CLIP, SigLIP and their like, of transformers."""

    def __init__(self, foreign: ForeignModel) -> None:
        self._foreign = foreign
        self._to_context = foreign.settings["model_type"] in _PADDED_TO_CONTEXT
        self.settings = {
            "padding": "context" if self._to_context else "longest", **foreign.settings,
        }  # fmt: skip

    @property
    def scale(self) -> float:
        """The inverse of the temperature. Raises ConfigError: the model names it otherwise."""
        log_scale = getattr(self._foreign.model, "logit_scale", None)
        if log_scale is None:
            kind = self._foreign.settings["model_type"]
            raise ConfigError(f"a model of type {kind!r} has no logit_scale: score it by cosine")
        return float(log_scale.double().exp())

    def check(self, item_id: str, text: str) -> None:
        """As `Embedder`."""
        self._foreign.check_text(item_id, text)
        tokens = self._foreign.processor.tokenizer(text, verbose=False)["input_ids"]
        _check_length(item_id, text, len(tokens), self._foreign.text_context)

    @torch.no_grad()
    def embed_images(self, images: Sequence[RGBImage]) -> Float[Tensor, "images dims"]:
        """As the model's own processor prepares them."""
        model, processor = self._foreign.model, self._foreign.processor
        pictures = [Image.fromarray(image) for image in images]
        inputs = processor(images=pictures, return_tensors="pt")
        features = model.get_image_features(**inputs.to(model.device, model.dtype))
        embedded: Tensor = features.pooler_output
        return embedded

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dims"]:
        """Padded as the model was trained."""
        model, processor = self._foreign.model, self._foreign.processor
        padding: dict[str, object] = {"padding": True}
        if self._to_context:
            padding = {"padding": "max_length", "max_length": self._foreign.text_context}
        inputs = processor(text=list(texts), return_tensors="pt", truncation=False, **padding)
        embedded: Tensor = model.get_text_features(**inputs.to(model.device)).pooler_output
        return embedded


class DualEncoderEmbedder:
    """A model of ours with embeddings."""

    def __init__(self, model: ContrastiveModel | CoCaModel | MaskedModel) -> None:
        self._model = model
        self.settings = {"kind": "dual encoder", "model": model.fingerprint}

    @property
    def scale(self) -> float:
        """Learned, at most 100."""
        return float(self._model.network.scale)

    def check(self, item_id: str, text: str) -> None:
        """As `Embedder`."""
        try:
            self._model.check_text(text)
        except TokenError as error:
            raise TokenError(f"item {item_id!r}: {error}") from None

    def embed_images(self, images: Sequence[RGBImage]) -> Float[Tensor, "images dims"]:
        """Scaled to fit and padded with white, as in training."""
        return self._model.embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dims"]:
        """As in training."""
        return self._model.embed_texts(texts)


def _check_length(item_id: str, text: str, num_tokens: int, limit: int | None) -> None:
    if limit is not None and num_tokens > limit:
        raise TokenError(
            f"item {item_id!r}: the text {text[:60]!r} has {num_tokens} tokens, more than the "
            f"{limit} that the model reads: shorten it or leave the item out"
        )

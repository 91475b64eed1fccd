"""A loaded model that reads pictures and texts, whatever it makes of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genvlm.models.auxiliary.folder import Built, Config, Family, Network
from genvlm.models.text_encoder import TextCoder
from genvlm.nn.devices import move_to
from genvlm.tokenization.image import fit_squares, to_pixels


@dataclass(frozen=True, kw_only=True)
class PairModel(Generic[Network]):
    """A network with what its inputs are made of."""

    network: Network
    texts: TextCoder
    side: int
    """Of the square picture, in pixels."""
    fingerprint: str
    """As `Family.fingerprint`."""

    @classmethod
    def of(cls, family: Family[Config, Network], config: Config, built: Built[Network]) -> Self:
        """The model of a network."""
        return cls(
            network=built.network,
            texts=built.texts,
            side=built.side,
            fingerprint=family.fingerprint(config, built),
        )

    @property
    def device(self) -> torch.device:
        """Of the network."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """This model, moved there. Raises ConfigError: no such device."""
        move_to(self.network, device)
        return self

    def pixels(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> Float[Tensor, "images 3 side side"]:
        """Pictures of any size as the network reads them: scaled to fit, padded with white."""
        dtype: Any = next(self.network.parameters()).dtype
        return to_pixels(fit_squares(images, self.side)).to(self.device, dtype)

    def check_text(self, text: str) -> None:
        """Raises TokenError: the text is too long."""
        self.texts.encode([text])

    def pieces(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
        """Texts as the network reads them. Raises TokenError: one that is too long."""
        pieces, mask = self.texts.encode(texts)
        return pieces.to(self.device), mask.to(self.device)


class EmbeddingModel(PairModel[Network], ABC):
    """One of which a picture and a text each have an embedding of their own."""

    @torch.no_grad()
    def embed_images(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> Float[Tensor, "images embedding"]:
        """Embeddings of pictures of any size, on the CPU; of none, none."""
        # Networks take no batch of nothing.
        some = images if len(images) else [np.zeros((self.side, self.side, 3), np.uint8)]
        return self.embed_pixels(self.pixels(some))[: len(images)].cpu()

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts embedding"]:
        """Embeddings of texts, on the CPU; of none, none.

        Raises:
            TokenError: a text that is too long.
        """
        some = texts if len(texts) else [""]
        return self.embed_pieces(*self.pieces(some))[: len(texts)].cpu()

    @abstractmethod
    def embed_pixels(
        self, pixels: Float[Tensor, "images 3 side side"]
    ) -> Float[Tensor, "images embedding"]:
        """Embeddings of length 1 of pixels in [-1, 1]."""

    @abstractmethod
    def embed_pieces(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """Embeddings of length 1 of texts as the network reads them."""

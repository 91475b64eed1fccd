"""A diffusion model: a text-conditioned network under a noise schedule, in a latent space.

B batch, N texts, T tokens, D width of the text encoder; C H W of a latent. Scorers, samplers and
training speak to these four parts alone, whether they are ours or Stable Diffusion's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genvlm.errors import ModelError
from genvlm.models.diffusion.schedule import NoiseSchedule, Prediction
from genvlm.models.text_encoder import TextCoder
from genvlm.nn.devices import move_to


class Conditioning(NamedTuple):
    """Texts as the network reads them."""

    states: Float[Tensor, "texts tokens dim"]
    mask: Bool[Tensor, "texts tokens"]
    """True where there is a token."""

    def take(self, rows: Int[Tensor, " rows"]) -> "Conditioning":
        """These texts, in this order; one may be taken more than once."""
        return Conditioning(self.states[rows], self.mask[rows])


class LatentSpace(Protocol):
    """Where the noise is added: pixels, or an autoencoder's latents, of unit scale."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        ...

    @property
    def fingerprint(self) -> str: ...

    def encode(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> Float[Tensor, "images c h w"]:
        """Latents of pictures of any size, on the CPU."""
        ...

    def decode(
        self, latents: Float[Tensor, "images c h w"]
    ) -> UInt8[np.ndarray, "images height width 3"]:
        """Pictures of latents."""
        ...


class Denoiser(nn.Module):
    """Text encoder and network; what is trained.

    Args:
        network: forward(x_t, times, states, mask) -> prediction, of x_t's shape.
        text_encoder: forward(pieces, mask) -> states.
    """

    def __init__(self, network: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.network, self.text_encoder = network, text_encoder

    def read(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Conditioning:
        """Texts as the network reads them."""
        return Conditioning(self.text_encoder(pieces, mask), mask)

    def forward(
        self,
        x_t: Float[Tensor, "batch c h w"],
        times: Float[Tensor, " batch"],
        conditioning: Conditioning,
    ) -> Float[Tensor, "batch c h w"]:
        """The network's prediction."""
        predicted: Tensor = self.network(x_t, times, conditioning.states, conditioning.mask)
        return predicted


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """Everything that scoring and sampling need."""

    denoiser: Denoiser
    schedule: NoiseSchedule
    prediction: Prediction
    latents: LatentSpace
    texts: TextCoder
    condition_dropout: float
    """What it was trained with; without it, p(image) was never learned."""
    fingerprint: str
    """sha256 over weights, configuration, schedule, latent space and text coder. No paths."""

    @property
    def device(self) -> torch.device:
        """Of the network."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of what the network is given and of what it predicts: float32 at least."""
        return torch.promote_types(next(self.denoiser.parameters()).dtype, torch.float32)

    def to(self, device: str | torch.device) -> "DiffusionModel":
        """This model, moved there; the latent space stays where it is. Raises ConfigError."""
        move_to(self.denoiser, device)
        return self

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Conditioning:
        """Texts as the network reads them, on its device. Raises TokenError: too long."""
        pieces, mask = self.texts.encode(texts)
        return self.denoiser.read(pieces.to(self.device), mask.to(self.device))

    @torch.no_grad()
    def predict(
        self,
        x_t: Float[Tensor, "batch c h w"],
        levels: Int[Tensor, " batch"],
        conditioning: Conditioning,
    ) -> Float[Tensor, "batch c h w"]:
        """The network's prediction at these levels, float32; float64 of a float64 network.

        Raises:
            ConfigError: a level outside of the schedule.
            ModelError: a prediction that is not finite.
        """
        self.schedule.check(levels.cpu().numpy())
        times = torch.from_numpy(self.schedule.times)[levels.cpu()].float().to(x_t.device)
        predicted: Tensor = self.denoiser(x_t, times, conditioning).to(self.dtype)
        if not torch.isfinite(predicted).all():
            raise ModelError(
                "the diffusion network predicts NaN or infinity: its weights are damaged, or its "
                "precision is too low for them"
            )
        return predicted

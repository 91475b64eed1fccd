"""Causal video VQ, inflated from an image VQ-GAN.

B batch, T frames, L latent frames, r frames per latent, Z latent channels, H W rows and columns.

Whatever is spatial (taming's or our encoder, taming's decoder, with their GroupNorm and attention)
works on single frames. What is temporal looks to the left only: a latent frame is made of its own r
frames, and a decoded frame of its own and earlier latent frames. Both begin as the identity, so
that the tokenizer begins as the image tokenizer on every r-th frame; and frame 0 never passes
through what is temporal in the encoder, so that a picture is the case T = 1.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.tokenization.vqgan import VQGAN

PICTURE_CODES = ("image.encoder.", "image.quant_conv.", "image.quantize.")
"""How the names of the parameters begin that give a picture its codes."""
# Of one pass of the layers that draw.
_FRAMES = 64


class VideoVQ(nn.Module):
    """T = 1 + r k frames to L = 1 + k frames of codes and back. Pixels in [-1, 1]."""

    def __init__(self, config: VideoVQConfig) -> None:
        super().__init__()
        self.config = config
        self.image = VQGAN(config.image)
        self.encoder = GroupEncoder(config)
        self.decoder = GroupDecoder(config)

    def encode_latents(
        self, videos: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch latents dim rows columns"]:
        """Continuous latents before quantization."""
        batch, frames = videos.shape[:2]
        features = self.image.features(videos.flatten(0, 1)).unflatten(0, (batch, frames))
        features = self.encoder(features)
        return self.image.quant_conv(features.flatten(0, 1)).unflatten(0, features.shape[:2])

    def decode_latents(
        self, latents: Float[Tensor, "batch latents dim rows columns"]
    ) -> Float[Tensor, "batch frames 3 height width"]:
        """Pixels of quantized latents; not clipped."""
        features = self._frame_features(latents)
        pixels = self.image.decode_features(features.flatten(0, 1))
        return pixels.unflatten(0, features.shape[:2])

    def _frame_features(
        self, latents: Float[Tensor, "batch latents dim rows columns"]
    ) -> Float[Tensor, "batch frames z rows columns"]:
        features = self.image.post_quant_conv(latents.flatten(0, 1))
        decoded: Tensor = self.decoder(features.unflatten(0, latents.shape[:2]))
        return decoded

    @torch.no_grad()
    def encode_groups(
        self, groups: Float[Tensor, "groups r 3 height width"]
    ) -> Int[Tensor, "groups rows columns"]:
        """Codes of runs of r frames that stand behind a first frame."""
        features = self.image.features(groups.flatten(0, 1)).unflatten(0, groups.shape[:2])
        features = self.encoder.merge(features[:, None])[:, 0]
        return self.image.quantize.nearest(self.image.quant_conv(features))

    @torch.no_grad()
    def decode(
        self, codes: Int[Tensor, "batch latents rows columns"]
    ) -> Float[Tensor, "batch frames 3 height width"]:
        """Clips of codes, clipped to [-1, 1]."""
        latents = self.image.quantize.lookup(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        features = self._frame_features(latents)
        # In pieces, so that of a long clip the frames alone take memory.
        pieces = features.flatten(0, 1).split(_FRAMES)
        pixels = torch.cat([self.image.decode_features(piece) for piece in pieces])
        return pixels.unflatten(0, features.shape[:2]).clamp(-1, 1)


class GroupEncoder(nn.Module):
    """Features of r frames to those of one latent frame: a convolution of kernel and stride r.

    It is the last frame of a group plus what an MLP makes of all of them, place by place.
    """

    def __init__(self, config: VideoVQConfig) -> None:
        super().__init__()
        z, width = config.image.z_channels, config.encoder_width
        self.frames_per_latent = config.frames_per_latent
        self.enter = nn.Linear(self.frames_per_latent * z, width)
        self.blocks = nn.ModuleList(_mlp(width) for _ in range(config.encoder_blocks))
        self.norm = nn.RMSNorm(width)
        self.leave = nn.Linear(width, z)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, features: Float[Tensor, "batch frames z rows columns"]
    ) -> Float[Tensor, "batch latents z rows columns"]:
        """The first frame as it is, then one of each group."""
        first, rest = features[:, :1], features[:, 1:]
        if rest.shape[1] == 0:
            return first
        return torch.cat([first, self.merge(rest.unflatten(1, (-1, self.frames_per_latent)))], 1)

    def merge(
        self, groups: Float[Tensor, "batch groups r z rows columns"]
    ) -> Float[Tensor, "batch groups z rows columns"]:
        """Groups of r frames."""
        x = self.enter(rearrange(groups, "b k r z h w -> b k h w (r z)"))
        for block in self.blocks:
            x = x + block(x)
        change = rearrange(self.leave(self.norm(x)), "b k h w z -> b k z h w")
        return groups[:, :, -1] + change


class GroupDecoder(nn.Module):
    """Features of latent frames to those of their r frames, by causal 3-D convolutions."""

    def __init__(self, config: VideoVQConfig) -> None:
        super().__init__()
        z, width = config.image.z_channels, config.decoder_width
        self.frames_per_latent = config.frames_per_latent
        self.enter = nn.Linear(z, width)
        self.blocks = nn.ModuleList(CausalBlock(width) for _ in range(config.decoder_blocks))
        self.norm = nn.RMSNorm(width)
        self.leave = nn.Linear(width, self.frames_per_latent * z)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, features: Float[Tensor, "batch latents z rows columns"]
    ) -> Float[Tensor, "batch frames z rows columns"]:
        """The first frame as it is, then r frames of each latent frame."""
        if features.shape[1] == 1:
            return features
        x = self.enter(rearrange(features, "b l z h w -> b l h w z"))
        for block in self.blocks:
            x = block(x)
        change = self.leave(self.norm(x[:, 1:]))
        change = rearrange(change, "b k h w (r z) -> b k r z h w", r=self.frames_per_latent)
        rest = (features[:, 1:, None] + change).flatten(1, 2)
        return torch.cat([features[:, :1], rest], 1)


class CausalBlock(nn.Module):
    """ConvNeXt's block (Liu et al. 2022) with a 3-D depthwise convolution that sees no future."""

    def __init__(self, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.pad = kernel - 1
        self.mix = nn.Conv3d(width, width, kernel, padding=(0, kernel // 2, kernel // 2),
                             groups=width)  # fmt: skip
        self.mlp = _mlp(width)

    def forward(
        self, x: Float[Tensor, "batch latents rows columns width"]
    ) -> Float[Tensor, "batch latents rows columns width"]:
        """Mix neighbours, then channels."""
        padded = F.pad(rearrange(x, "b l h w c -> b c l h w"), (0, 0, 0, 0, self.pad, 0))
        x = x + rearrange(self.mix(padded), "b c l h w -> b l h w c")
        return x + self.mlp(x)


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.RMSNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
    )

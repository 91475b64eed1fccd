"""VQ-GAN network: taming-transformers' Encoder and Decoder around our quantizer.

Module names equal those of published taming checkpoints (encoder, decoder, quantize, quant_conv,
post_quant_conv), so that a published file loads without renaming.
"""

import contextlib
import io

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.errors import CheckpointError
from genvlm.nn.quantizer import Quantized, VectorQuantizer

# Of pictures that are encoded together.
_CELLS = 256


class VQGAN(nn.Module):
    """Discrete autoencoder (Esser et al. 2021, "Taming Transformers"). Pixels in [-1, 1]."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        encoder_class, decoder_class = _taming_classes()
        shape = {
            "ch": config.channels,
            "ch_mult": config.channel_multipliers,
            "num_res_blocks": config.num_res_blocks,
            "attn_resolutions": config.attn_resolutions,
            "in_channels": 3 * config.patch_size**2,
            "out_ch": 3 * config.patch_size**2,
            "resolution": config.resolution // config.patch_size,
            "z_channels": config.z_channels,
        }
        with contextlib.redirect_stdout(io.StringIO()):  # taming prints its shapes when built
            self.encoder = (
                encoder_class(**shape, double_z=False)
                if config.encoder_margin is None
                else LocalEncoder(config, config.encoder_margin)
            )
            self.decoder = decoder_class(**shape) if config.decoder else None
        self.quantize = VectorQuantizer(
            config.codebook_size, config.codebook_dim, l2_normalized=config.l2_normalized
        )
        self.quant_conv = nn.Conv2d(config.z_channels, config.codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.codebook_dim, config.z_channels, 1)
        self.patch_size, self.cell = config.patch_size, config.downsample_factor

    def features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch z rows columns"]:
        """What the encoder gives."""
        if not isinstance(self.encoder, LocalEncoder):
            s = self.patch_size
            images = rearrange(images, "b c (h s) (w t) -> b (c s t) h w", s=s, t=s)
        features: Tensor = self.encoder(images)
        return features

    def encode_latents(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        """Continuous latents before quantization."""
        latents: Tensor = self.quant_conv(self.features(images))
        return latents

    def decode_latents(
        self, latents: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pixels of quantized latents; not clipped. Raises CheckpointError without a decoder."""
        return self.decode_features(self.post_quant_conv(latents))

    def decode_features(
        self, features: Float[Tensor, "batch z rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pixels of what the decoder takes. Raises CheckpointError without a decoder."""
        if self.decoder is None:
            raise CheckpointError(
                "this image tokenizer came without a decoder and can draw nothing: convert a "
                "release that has one (Meta's, not Hugging Face's)"
            )
        s = self.patch_size
        patches = self.decoder(features)
        return rearrange(patches, "b (c s t) h w -> b c (h s) (w t)", s=s, t=s)

    @torch.no_grad()
    def encode(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Int[Tensor, "batch rows columns"]:
        """Codes of pictures."""
        lone = images.shape[-2:] == (self.cell, self.cell)
        latents = self.encode_latents(_twice(images) if lone else images)
        return self.quantize.nearest(latents)[: len(images)]

    @torch.no_grad()
    def decode(
        self, codes: Int[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pictures of codes, clipped to [-1, 1]."""
        lone = codes.shape[1:] == (1, 1)
        pixels = self.decode_latents(self.quantize.lookup(_twice(codes) if lone else codes))
        return pixels[: len(codes)].clamp(-1, 1)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Quantized]:
        """Reconstruction (not clipped) and the quantizer's result, for training."""
        quantized = self.quantize(self.encode_latents(images))
        return self.decode_latents(quantized.latents), quantized


def _twice(batch: Tensor) -> Tensor:
    """A batch of one as two: torch's GroupNorm refuses a lone picture of a single code."""
    return batch.repeat(2, *[1] * (batch.dim() - 1)) if len(batch) == 1 else batch


class LocalEncoder(nn.Module):
    """Latents of each cell from the cell and a margin around it, by an MLP.

    taming's Encoder sees the whole picture everywhere (attention, GroupNorm): it writes details of
    a drawing into the codes of an empty background, and equal patches get unequal codes.
    """

    def __init__(self, config: VQGANConfig, margin: int) -> None:
        super().__init__()
        cell, width = config.downsample_factor, 2 * config.channels
        self.window = nn.Conv2d(
            3, width, cell + 2 * margin, stride=cell, padding=margin,
            # So that an empty corner has the code of any empty place.
            padding_mode="replicate",
        )  # fmt: skip
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.RMSNorm(width), nn.Linear(width, 2 * width), nn.SiLU(),
                nn.Linear(2 * width, width),
            )
            for _ in range(2 * config.num_res_blocks)
        )  # fmt: skip
        self.norm = nn.RMSNorm(width)
        self.out = nn.Linear(width, config.z_channels)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch z rows columns"]:
        """Latents of pictures in [-1, 1]."""
        x = self.window(images)
        batch, _, height, width = x.shape
        rows = rearrange(x, "b c h w -> (b h w) c")
        z = self._of_distinct(rows) if not torch.is_grad_enabled() else self._of_rows(rows)
        return rearrange(z, "(b h w) c -> b c h w", b=batch, h=height, w=width)

    def _of_rows(self, x: Float[Tensor, "cells width"]) -> Float[Tensor, "cells z"]:
        for block in self.blocks:
            x = x + block(x)
        z: Tensor = self.out(self.norm(x))
        return z

    def _of_distinct(self, x: Float[Tensor, "cells width"]) -> Float[Tensor, "cells z"]:
        """The same, each distinct cell once: most cells of drawings and of their videos recur.

        Always so many cells at once, since matrix products of another size differ in the last bits,
        and what else is encoded would tip codes that are as near as others.
        """
        rows = x.contiguous().view(torch.uint8).cpu().numpy()  # NumPy knows no bfloat16
        as_bytes = rows.view(np.dtype((np.void, rows.shape[1])))[:, 0]
        _, first, places = np.unique(as_bytes, return_index=True, return_inverse=True)
        distinct = x[torch.from_numpy(first).to(x.device)]
        pieces = F.pad(distinct, (0, 0, 0, -len(distinct) % _CELLS)).split(_CELLS)
        z = torch.cat([self._of_rows(piece) for piece in pieces])
        return z[torch.from_numpy(places).to(x.device)]


def _taming_classes() -> tuple[type[nn.Module], type[nn.Module]]:
    try:
        from taming.modules.diffusionmodules.model import Decoder, Encoder
    except ImportError:
        raise CheckpointError(
            "taming-transformers is not installed: run "
            "`pip install --no-deps taming-transformers==0.0.1` "
            "(without its dependencies, which genvlm does not use)"
        ) from None
    return Encoder, Decoder

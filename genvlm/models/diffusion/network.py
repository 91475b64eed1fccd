"""Networks of diffusers as a Denoiser calls them. B batch, C H W of a latent, T tokens, D width."""

from typing import Any, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genvlm.config.diffusion import DiTConfig, UNetConfig
from genvlm.errors import ConfigError
from genvlm.models.foreign import import_diffusers

# diffusers' own, of tokens that are not there.
_UNSEEN = -10_000.0


class UNet(nn.Module):
    """diffusers' UNet2DConditionModel."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x_t: Float[Tensor, "batch c h w"],
        times: Float[Tensor, " batch"],
        states: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch c h w"]:
        """The prediction."""
        predicted: Tensor = self.model(x_t, times, states, encoder_attention_mask=mask).sample
        return predicted

    def init_output(self) -> None:
        """Training begins at a prediction of 0 (Dhariwal & Nichol 2021)."""
        model: Any = self.model
        nn.init.zeros_(model.conv_out.weight)
        nn.init.zeros_(model.conv_out.bias)


class DiT(nn.Module):
    """diffusers' PixArtTransformer2DModel (Chen et al. 2023, arXiv 2310.00426)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x_t: Float[Tensor, "batch c h w"],
        times: Float[Tensor, " batch"],
        states: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch c h w"]:
        """The prediction."""
        predicted: Tensor = self.model(
            x_t,
            encoder_hidden_states=states,
            timestep=times,
            encoder_attention_mask=mask,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return predicted

    def states(
        self,
        x_t: Float[Tensor, "batch c h w"],
        times: Float[Tensor, " batch"],
        states: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"],
        num_blocks: int,
    ) -> Float[Tensor, "batch patches hidden"]:
        """Of the patches behind the first blocks, as diffusers' own forward makes them."""
        model: Any = self.model
        x: Tensor = model.pos_embed(x_t)
        modulation, _ = model.adaln_single(
            times,
            {"resolution": None, "aspect_ratio": None},
            batch_size=len(x),
            hidden_dtype=x.dtype,
        )
        texts = model.caption_projection(states)
        bias = (1 - mask.to(x.dtype))[:, None] * _UNSEEN
        for block in model.transformer_blocks[:num_blocks]:
            x = block(
                x, encoder_hidden_states=texts, encoder_attention_mask=bias, timestep=modulation
            )
        return x

    def init_output(self) -> None:
        """PixArt's own beginning: no text is read yet, and the prediction is 0."""
        model: Any = self.model
        outputs = [model.proj_out, *(block.attn2.to_out[0] for block in model.transformer_blocks)]
        for linear in outputs:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)


def build_network(
    config: UNetConfig | DiTConfig,
    shape: tuple[int, int, int],
    text_width: int,
    *,
    seed: int,
) -> UNet | DiT:
    """A network for latents of this shape and texts of this width, initialised from the seed.

    Raises:
        ConfigError: the latent is not square or its side no multiple of what the network halves.
    """
    _, rows, columns = shape
    if rows != columns or rows % config.side_factor:
        raise ConfigError(
            f"a latent of {rows} x {columns} does not fit the network, which needs a square whose "
            f"side is a multiple of {config.side_factor}: change the network or the latent space"
        )
    diffusers = import_diffusers()
    network: UNet | DiT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match config:
            case UNetConfig():
                network = UNet(_build_unet(diffusers, config, shape, text_width))
            case DiTConfig():
                network = DiT(_build_dit(diffusers, config, shape, text_width))
            case _:
                assert_never(config)
    network.init_output()
    return network


def _build_unet(
    diffusers: Any, config: UNetConfig, shape: tuple[int, int, int], text_width: int
) -> nn.Module:
    kinds = ["CrossAttn" if attends else "" for attends in config.attention]
    unet: nn.Module = diffusers.UNet2DConditionModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        dropout=config.dropout,
        norm_num_groups=config.norm_num_groups,
        cross_attention_dim=text_width,
        # In spite of its name diffusers takes the number of heads here.
        attention_head_dim=tuple(max(1, c // config.head_dim) for c in config.block_out_channels),
    )
    return unet


def _build_dit(
    diffusers: Any, config: DiTConfig, shape: tuple[int, int, int], text_width: int
) -> nn.Module:
    dit: nn.Module = diffusers.PixArtTransformer2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        num_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        attention_head_dim=config.hidden_size // config.num_heads,
        cross_attention_dim=config.hidden_size,
        caption_channels=text_width,
        patch_size=config.patch_size,
        dropout=config.dropout,
        attention_bias=True,
        use_additional_conditions=False,
    )
    return dit

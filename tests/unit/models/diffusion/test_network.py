"""Networks of diffusers behind one forward: what they read, and how they begin."""

import pytest
import torch

from genvlm.config.diffusion import DiTConfig, UNetConfig
from genvlm.errors import ConfigError
from genvlm.models.diffusion.network import build_network
from genvlm.testing.tiny_diffusion import NetworkKind, tiny_diffusion, tiny_diffusion_config

KINDS: tuple[NetworkKind, ...] = ("dit", "unet")
SHAPE = (3, 8, 8)


def inputs(num: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, *SHAPE, generator=generator), torch.full((num,), 300)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_network_predicts_zero_and_is_a_function_of_its_seed(kind: NetworkKind) -> None:
    config = tiny_diffusion_config(kind).network
    before = torch.random.get_rng_state()
    one, same, other = (build_network(config, SHAPE, 16, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    x, times = inputs()
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert one(x, times, torch.randn(2, 5, 16), mask).abs().max() == 0
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_of_a_network_that_has_left_its_beginning(
    kind: NetworkKind,
) -> None:
    model = tiny_diffusion(kind)
    denoiser = model.denoiser.requires_grad_()
    pieces, mask = model.texts.encode(["a red bar", "a blue square"])
    x, times = inputs()
    with torch.enable_grad():
        denoiser(x, times.float(), denoiser.read(pieces, mask)).square().sum().backward()
    without = [n for n, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_picture_level_and_text_change_the_prediction_and_padding_does_not(
    kind: NetworkKind,
) -> None:
    model = tiny_diffusion(kind)
    x, levels = inputs(1)
    short, long = "a red bar", "a blue square on a white page"
    alone = model.predict(x, levels, model.read([short]))
    padded = model.read([short, long])
    assert not padded.mask[0].all()
    among = model.predict(x, levels, padded.take(torch.tensor([0])))
    torch.testing.assert_close(among, alone, atol=1e-5, rtol=0)
    for other in (
        model.predict(x, levels, model.read([long])),
        model.predict(x, levels, model.read([""])),
        model.predict(x, levels - 200, model.read([short])),
        model.predict(x + 0.1, levels, model.read([short])),
    ):
        assert (other - alone).abs().max() > 1e-3


def test_a_latent_that_a_network_cannot_halve_is_refused() -> None:
    unet = UNetConfig(
        block_out_channels=(8, 8, 8), attention=(False,) * 3, head_dim=8, norm_num_groups=4
    )
    with pytest.raises(ConfigError, match=r"6 x 6 does not fit .* multiple of 4"):
        build_network(unet, (3, 6, 6), 16, seed=0)
    dit = DiTConfig(hidden_size=16, num_layers=1, num_heads=2, patch_size=4)
    with pytest.raises(ConfigError, match=r"6 x 6 does not fit .* multiple of 4"):
        build_network(dit, (3, 6, 6), 16, seed=0)
    with pytest.raises(ConfigError, match=r"4 x 8 does not fit .* square"):
        build_network(dit, (3, 4, 8), 16, seed=0)


def test_a_level_that_does_not_attend_reads_no_text() -> None:
    unet = UNetConfig(
        block_out_channels=(8, 16), attention=(False, True), head_dim=4, norm_num_groups=4
    )
    names = [n for n, _ in build_network(unet, SHAPE, 16, seed=0).named_parameters()]
    assert not any("down_blocks.0.attentions" in n or "up_blocks.1.attentions" in n for n in names)
    assert any("down_blocks.1.attentions" in n for n in names)


def test_head_dim_is_the_width_of_a_head() -> None:
    config = UNetConfig(
        block_out_channels=(8, 16), attention=(True, True), head_dim=4, norm_num_groups=4
    )
    unet = build_network(config, SHAPE, 16, seed=0)
    heads = {
        name: module.heads
        for name, module in unet.named_modules()
        if name.endswith("attn2") and "blocks.0.attentions.0" in name
    }
    assert heads["model.down_blocks.0.attentions.0.transformer_blocks.0.attn2"] == 2
    assert heads["model.up_blocks.0.attentions.0.transformer_blocks.0.attn2"] == 4

"""VQ-GAN files of taming and LlamaGen: read, written, compared with taming's modules, refused."""

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.cli.main import main
from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.errors import CheckpointError
from genvlm.models.convert.layouts import convert
from genvlm.models.convert.vqgan import read_vqgan
from genvlm.testing.tiny import published_vqgan_config, tiny_image_tokenizer
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.tokenization.vqgan import VQGAN

PUBLISHED = published_vqgan_config()


def write_published(path: Path, network: VQGAN) -> None:
    tensors = dict(network.state_dict())
    tensors["loss.perceptual_loss.lin0.model.1.weight"] = torch.rand(1, 64, 1, 1)
    tensors["loss.discriminator.main.0.weight"] = torch.rand(64, 3, 4, 4)
    torch.save({"state_dict": tensors, "epoch": 3, "global_step": 7}, path)


def test_a_published_taming_checkpoint_loads_without_its_losses(tmp_path: Path) -> None:
    network = VQGAN(PUBLISHED)
    write_published(tmp_path / "last.ckpt", network)
    tokenizer, left_out = read_vqgan(tmp_path / "last.ckpt", resolution=32)
    loaded = tokenizer.network
    assert (tokenizer.config, left_out) == (PUBLISHED, 2)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    codes = loaded.encode(images)
    assert codes.shape == (1, 2, 2)
    assert torch.equal(codes, network.encode(images))


@pytest.mark.parametrize(
    "config",
    [
        PUBLISHED,
        VQGANConfig(resolution=64, channels=32, channel_multipliers=(1, 2, 4), num_res_blocks=1,
                    z_channels=16, codebook_size=32, codebook_dim=8),
        VQGANConfig(resolution=32, channels=64, channel_multipliers=(1, 1), num_res_blocks=2,
                    attn_resolutions=(32, 16), z_channels=8, codebook_size=16, codebook_dim=8),
    ],
    ids=["published", "three levels", "attention everywhere"],
)  # fmt: skip
def test_the_shape_is_read_off_the_tensors(config: VQGANConfig, tmp_path: Path) -> None:
    torch.save({"state_dict": VQGAN(config).state_dict()}, tmp_path / "last.ckpt")
    tokenizer, left_out = read_vqgan(tmp_path / "last.ckpt", resolution=config.resolution)
    assert (tokenizer.config, left_out) == (config, 0)


def test_taming_to_genvlm_and_back_is_bitwise(tmp_path: Path) -> None:
    write_published(tmp_path / "last.ckpt", VQGAN(PUBLISHED))
    said = convert(tmp_path / "last.ckpt", tmp_path / "ours", "genvlm", resolution=32)
    assert "2 tensors of its training were left out" in said
    convert(tmp_path / "ours", tmp_path / "again.ckpt", "taming")
    first, again = (
        torch.load(tmp_path / n, weights_only=True)["state_dict"]
        for n in ("last.ckpt", "again.ckpt")
    )
    assert again.keys() == {n for n in first if not n.startswith("loss.")}
    assert all(torch.equal(first[n], again[n]) for n in again)


@torch.no_grad()
def test_codes_and_pictures_equal_those_of_tamings_own_modules(tmp_path: Path) -> None:
    from taming.modules.diffusionmodules.model import Decoder, Encoder
    from taming.modules.vqvae.quantize import VectorQuantizer

    network = VQGAN(PUBLISHED).eval()
    seen = network.encode_latents(torch.rand(16, 3, 32, 32) * 2 - 1)
    network.quantize.embedding.weight.data = seen.permute(0, 2, 3, 1).reshape(64, 32)
    write_published(tmp_path / "last.ckpt", network)
    loaded = read_vqgan(tmp_path / "last.ckpt", resolution=32)[0].network
    shape = {
        "ch": 32, "ch_mult": (1, 1, 2, 2, 4), "num_res_blocks": PUBLISHED.num_res_blocks,
        "attn_resolutions": PUBLISHED.attn_resolutions, "in_channels": 3, "out_ch": 3,
        "resolution": 32, "z_channels": PUBLISHED.z_channels,
    }  # fmt: skip
    tensors = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]

    def part(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        module.load_state_dict(own)
        return module.eval()

    encoder = part(Encoder(**shape, double_z=False), "encoder.")
    decoder = part(Decoder(**shape), "decoder.")
    size, dim = PUBLISHED.codebook_size, PUBLISHED.codebook_dim
    quantizer = part(VectorQuantizer(size, dim, beta=0.25), "quantize.")
    before = part(torch.nn.Conv2d(PUBLISHED.z_channels, dim, 1), "quant_conv.")
    after = part(torch.nn.Conv2d(dim, PUBLISHED.z_channels, 1), "post_quant_conv.")
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    _, _, (_, _, codes) = quantizer(before(encoder(images)))
    ours = loaded.encode(images)
    assert torch.equal(ours.flatten(), codes.flatten())
    assert len(codes.unique()) > 3
    latents = quantizer.embedding(codes.view(3, 2, 2)).permute(0, 3, 1, 2)
    decoded = loaded.decode_latents(loaded.quantize.lookup(ours))
    assert (decoded - decoder(after(latents))).abs().max() <= 1e-5


def test_losses_equal_those_of_tamings_quantizer() -> None:
    """Its `legacy` form, the only one in the release: beta weighs the codebook's term."""
    from taming.modules.vqvae.quantize import VectorQuantizer

    network = VQGAN(replace(PUBLISHED, codebook_size=16, codebook_dim=8))
    torch.nn.init.normal_(network.quantize.embedding.weight)
    theirs = VectorQuantizer(16, 8, beta=0.25)
    theirs.embedding.weight.data.copy_(network.quantize.embedding.weight)
    latents = torch.randn(2, 8, 3, 3)
    of_ours, of_theirs = (latents.clone().requires_grad_() for _ in range(2))
    quantized = network.quantize(of_ours)
    # As the docstring of VQGANTrainConfig.initial says.
    ours = 1.0 * quantized.commitment_loss + 0.25 * quantized.codebook_loss
    reference = theirs(of_theirs)[1]
    torch.testing.assert_close(ours, reference)
    ours.backward()
    reference.backward()
    torch.testing.assert_close(of_ours.grad, of_theirs.grad)
    torch.testing.assert_close(network.quantize.embedding.weight.grad, theirs.embedding.weight.grad)


def to_llamagen(name: str, levels: int) -> str:
    """taming's name of a tensor in LlamaGen's words (its vq_model.py), written by hand here."""
    for side, word in (("encoder", "down"), ("decoder", "up")):
        if match := re.fullmatch(rf"{side}\.{word}\.(\d)\.(block|attn)\.(.*)", name):
            level = int(match[1]) if side == "encoder" else levels - 1 - int(match[1])
            return (
                f"{side}.conv_blocks.{level}.{'res' if match[2] == 'block' else 'attn'}.{match[3]}"
            )
        if match := re.fullmatch(rf"{side}\.{word}\.(\d)\.(\w+sample)\.(.*)", name):
            level = int(match[1]) if side == "encoder" else levels - 1 - int(match[1])
            return f"{side}.conv_blocks.{level}.{match[2]}.{match[3]}"
    for number, part in enumerate(("block_1", "attn_1", "block_2")):
        name = name.replace(f".mid.{part}.", f".mid.{number}.")
    return name


@torch.no_grad()
def test_llamagens_names_give_the_same_codes_and_pictures(tmp_path: Path) -> None:
    config = replace(PUBLISHED, codebook_dim=8, l2_normalized=True)
    network = VQGAN(config).eval()
    tensors = {to_llamagen(n, 5): t for n, t in network.state_dict().items()}
    assert "encoder.conv_blocks.4.attn.1.q.weight" in tensors
    assert "decoder.conv_blocks.0.attn.2.q.weight" in tensors
    assert "decoder.conv_blocks.3.upsample.conv.weight" in tensors
    tensors["quantize.codebook_used"] = torch.zeros(65536)
    torch.save({"model": tensors}, tmp_path / "vq.pt")
    tokenizer, left_out = read_vqgan(tmp_path / "vq.pt", resolution=32)
    assert (tokenizer.config, left_out) == (config, 1)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    codes = network.encode(images)
    assert torch.equal(tokenizer.network.encode(images), codes)
    assert torch.equal(tokenizer.network.decode(codes), network.decode(codes))


class Hostile:
    """Pickled as a call of os.mkdir."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("inside", ["whole file", "one entry"])
def test_a_hostile_pickle_is_refused_and_never_runs(inside: str, tmp_path: Path) -> None:
    target, path = tmp_path / "it-ran", tmp_path / "last.ckpt"
    if inside == "whole file":
        path.write_bytes(pickle.dumps(Hostile(target)))
    else:
        torch.save({"state_dict": {}, "callbacks": Hostile(target)}, path)
    with pytest.raises(CheckpointError, match="cannot be read without running code"):
        read_vqgan(path, resolution=32)
    assert not target.exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    network = VQGAN(PUBLISHED)
    tensors = dict(network.state_dict())
    del tensors["decoder.up.1.block.0.conv1.weight"]
    tensors["decoder.odd"] = torch.zeros(1)
    torch.save({"state_dict": tensors}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"missing: decoder.up.1.*unexpected: decoder.odd"):
        read_vqgan(tmp_path / "last.ckpt", resolution=32)
    torch.save({"state_dict": {"a": 1}}, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match="holds no state_dict of tensors"):
        read_vqgan(tmp_path / "odd.ckpt", resolution=32)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="is no VQ-GAN of a known layout"):
        read_vqgan(tmp_path / "other.ckpt", resolution=32)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_vqgan(tmp_path / "missing.ckpt", resolution=32)
    tiny_image_tokenizer().save(tmp_path / "ours")
    with pytest.raises(CheckpointError, match="taming-transformers has no patch_size, l2_norm"):
        convert(tmp_path / "ours", tmp_path / "theirs.ckpt", "taming")
    with pytest.raises(CheckpointError, match="an image tokenizer alone"):
        convert(tmp_path / "ours", tmp_path / "theirs", "hf-chameleon")
    with pytest.raises(CheckpointError, match="is there already"):
        convert(tmp_path / "ours", tmp_path / "ours", "genvlm")


def test_the_command_converts_and_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_published(tmp_path / "last.ckpt", VQGAN(PUBLISHED))
    paths = [str(tmp_path / "last.ckpt"), str(tmp_path / "ours")]
    assert main(["convert", *paths, "--to", "genvlm", "--resolution", "32"]) == 0
    assert "2 tensors of its training were left out" in capsys.readouterr().out
    assert load_image_tokenizer(tmp_path / "ours").config == PUBLISHED
    assert main(["convert", str(tmp_path), str(tmp_path / "x"), "--to", "genvlm"]) == 2
    assert "is of no known layout" in capsys.readouterr().err

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.errors import CheckpointError, ImageError
from genvlm.testing.tiny import (
    published_vqgan_config,
    tiny_image_config,
    tiny_image_tokenizer,
    tiny_pairs,
)
from genvlm.tokenization.image import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ImageTokenizer,
    fit_square,
    load_image_tokenizer,
    to_pixels,
    to_uint8,
)
from genvlm.tokenization.vqgan import VQGAN

PICTURES = [image for _, image in tiny_pairs()]


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    return tiny_image_tokenizer()


def test_pictures_become_a_grid_of_codes_and_pictures_again(tokenizer: ImageTokenizer) -> None:
    codes = tokenizer.encode(PICTURES)
    assert codes.shape == (len(PICTURES), 4, 4)
    assert codes.min() >= 0
    assert codes.max() < 16
    decoded = tokenizer.decode(codes)
    assert decoded.shape == (len(PICTURES), 16, 16, 3)
    assert decoded.dtype == np.uint8
    assert len(np.unique(codes)) > 1


def test_a_picture_has_the_same_codes_alone_and_in_a_batch(tokenizer: ImageTokenizer) -> None:
    together = tokenizer.encode(PICTURES)
    alone = np.concatenate([tokenizer.encode([p]) for p in PICTURES])
    np.testing.assert_array_equal(together, alone)


def test_a_local_encoder_sees_no_further_than_its_margin() -> None:
    torch.manual_seed(0)
    local = replace(tiny_image_config(resolution=32), encoder_margin=2)
    network, everything = VQGAN(local), VQGAN(replace(local, encoder_margin=None))
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    changed = picture.clone()
    changed[..., 18:, 18:] = -picture[..., 18:, 18:]  # the cell at 16..20 and its margin see it
    for model, spared in ((network, 4), (everything, 0)):
        same = torch.isclose(
            model.encode_latents(picture), model.encode_latents(changed), atol=1e-6
        ).all(1)[0]
        assert same[:spared].all()
        assert same[:, :spared].all()
        assert not same[spared:, spared:].any()


def test_a_local_encoder_gives_equal_patches_equal_codes_wherever_they_stand() -> None:
    torch.manual_seed(0)
    network = VQGAN(replace(tiny_image_config(resolution=32), encoder_margin=2)).eval()
    patch = torch.rand(3, 4, 4) * 2 - 1
    pictures = torch.ones(4, 3, 32, 32)
    places = ((2, 1), (5, 3), (1, 1), (6, 4))
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = patch
    latents = network.encode_latents(pictures)
    blank = latents[0, :, 7, 7]
    for latent, (row, column) in zip(latents, places, strict=True):
        torch.testing.assert_close(latent[:, row, column], latents[0, :, 2, 1])
        far = [latent[:, r, c] for r in range(8) for c in range(8)
               if max(abs(r - row), abs(c - column)) > 1]  # fmt: skip
        torch.testing.assert_close(torch.stack(far), blank.expand(len(far), -1))


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of RMSNorm, which then works in another way
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_cells_that_recur_are_encoded_once_and_like_the_others(autocast: bool) -> None:
    """257 cells are a part and one more; with gradients every cell is encoded."""
    torch.manual_seed(0)
    encoder = VQGAN(replace(tiny_image_config(resolution=32), encoder_margin=2)).encoder
    pictures = (torch.rand(5, 3, 32, 32) * 2 - 1)[[0, 1, 2, 3, 4, 3, 0]]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        every = encoder(pictures).detach()
        with torch.no_grad():
            distinct = encoder(pictures)
    assert distinct.dtype == every.dtype
    assert torch.allclose(distinct, every, atol=5e-2 if autocast else 1e-5)
    assert torch.equal(distinct[5:], distinct[[3, 0]])


def test_progress_counts_pictures(tokenizer: ImageTokenizer) -> None:
    seen: list[int] = []
    tokenizer.encode(PICTURES * 6, seen.append)
    assert seen == [64, 72]
    assert tokenizer.encode([]).shape == (0, 4, 4)
    assert tokenizer.decode(np.zeros((0, 4, 4), int)).shape == (0, 16, 16, 3)


def test_saving_and_loading_is_bitwise(tokenizer: ImageTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_image_tokenizer(tmp_path)
    assert loaded.config == tokenizer.config
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.codebook_fingerprint == tokenizer.codebook_fingerprint
    for name, tensor in tokenizer.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)
    before = (tmp_path / WEIGHTS_FILE).read_bytes()
    loaded.save(tmp_path)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before


def test_float16_on_disk_is_rounded_once_and_then_bitwise(
    tokenizer: ImageTokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "full")
    tokenizer.save(tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / n / WEIGHTS_FILE).stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    loaded = load_image_tokenizer(tmp_path / "half")
    for name, tensor in tokenizer.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor.half().float())
    loaded.save(tmp_path / "again", dtype=torch.float16)
    files = [(tmp_path / n / WEIGHTS_FILE).read_bytes() for n in ("half", "again")]
    assert files[0] == files[1]
    # A model folder saves float32: that must not round again.
    loaded.save(tmp_path / "folder")
    assert load_image_tokenizer(tmp_path / "folder").fingerprint == loaded.fingerprint


def test_codes_outside_the_codebook_are_refused(tokenizer: ImageTokenizer) -> None:
    for code in (-1, 16):
        codes = np.zeros((1, 4, 4), int)
        codes[0, 0, 0] = code
        with pytest.raises(ImageError, match="outside the codebook of 16"):
            tokenizer.decode(codes)


def test_broken_folders_are_refused(tokenizer: ImageTokenizer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"lacks {CONFIG_FILE}"):
        load_image_tokenizer(tmp_path)
    tokenizer.save(tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged or not safetensors"):
        load_image_tokenizer(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no weights at"):
        load_image_tokenizer(tmp_path)
    tiny_image_tokenizer(codebook_size=8).save(tmp_path / "other")
    (tmp_path / "other" / CONFIG_FILE).write_bytes((tmp_path / CONFIG_FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"misshapen: quantize\.embedding\.weight \(8, 4\)"):
        load_image_tokenizer(tmp_path / "other")


def test_other_codebooks_have_other_fingerprints(tokenizer: ImageTokenizer) -> None:
    other = tiny_image_tokenizer(seed=1)
    assert other.fingerprint != tokenizer.fingerprint
    assert other.codebook_fingerprint != tokenizer.codebook_fingerprint


def test_pixels_round_trip_every_value() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    pixels = to_pixels(values)
    assert (pixels.min().item(), pixels.max().item()) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(pixels), values)


def test_other_sizes_are_scaled_and_padded_white() -> None:
    black = np.zeros((10, 40, 3), np.uint8)
    fitted = fit_square(black, 16)
    assert fitted.shape == (16, 16, 3)
    assert (fitted[:6] == 255).all()
    assert (fitted[6:10] == 0).all()
    assert (fitted[10:] == 255).all()
    assert fit_square(np.zeros((1, 500, 3), np.uint8), 16).shape == (16, 16, 3)


# --- published checkpoints -----------------------------------------------------------------------

PUBLISHED = published_vqgan_config()


def test_the_f16_imagenet_model_has_the_published_shapes() -> None:
    published = VQGANConfig(resolution=256, attn_resolutions=(16,), codebook_size=1024)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in VQGAN(published).state_dict().items()}
    assert published.grid_size == 16
    assert shapes["quantize.embedding.weight"] == (1024, 256)
    assert shapes["encoder.conv_in.weight"] == (128, 3, 3, 3)
    assert shapes["encoder.down.4.attn.1.q.weight"] == (512, 512, 1, 1)
    assert shapes["encoder.conv_out.weight"] == (256, 512, 3, 3)
    assert shapes["decoder.conv_out.weight"] == (3, 128, 3, 3)
    assert shapes["post_quant_conv.weight"] == (256, 256, 1, 1)


def test_tensor_names_are_those_of_published_checkpoints() -> None:
    names = set(VQGAN(PUBLISHED).state_dict())
    assert {
        "encoder.conv_in.weight",
        "encoder.down.4.attn.0.q.weight",
        "encoder.mid.attn_1.proj_out.weight",
        "decoder.up.0.block.2.conv2.weight",
        "decoder.norm_out.weight",
        "quantize.embedding.weight",
        "quant_conv.weight",
        "post_quant_conv.bias",
    } <= names
    assert {n.split(".")[0] for n in names} == {
        "encoder", "decoder", "quantize", "quant_conv", "post_quant_conv",
    }  # fmt: skip

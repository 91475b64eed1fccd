"""Image tokenizer: a trained VQ-GAN with its configuration, from pictures to codes and back."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.schema import dump_config, load_config, to_plain
from genvlm.errors import CheckpointError, ImageError
from genvlm.nn.quantizer import VectorQuantizer
from genvlm.nn.safetensors_folder import (
    fingerprint_of,
    fingerprint_tensors,
    load_into,
    load_tensors,
    save_tensors,
)
from genvlm.tokenization.vqgan import VQGAN

CONFIG_FILE = "image.yaml"
WEIGHTS_FILE = "image.safetensors"
_BATCH = 64


class ImageTokenizer:
    """Encodes uint8 RGB pictures of any size as a square grid of codes."""

    def __init__(self, config: VQGANConfig, network: VQGAN) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of a picture."""
        return self.config.grid_size, self.config.grid_size

    @property
    def codebook(self) -> Float[Tensor, "codes dim"]:
        """The vectors that codes stand for."""
        return self.network.quantize.codebook

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights and configuration."""
        return fingerprint_of(
            {
                "weights": fingerprint_tensors(self.network.state_dict()),
                "model": to_plain(self.config),
            }
        )

    @cached_property
    def codebook_fingerprint(self) -> str:
        """sha256 over the codebook: tokenizers that share it may share token ids."""
        return codebook_fingerprint(self.network.quantize)

    @torch.no_grad()
    def encode(
        self,
        images: Sequence[UInt8[np.ndarray, "height width 3"]],
        progress: Callable[[int], None] = lambda done: None,
    ) -> Int[np.ndarray, "images rows columns"]:
        """Codes of pictures; other sizes are scaled to fit and padded to a white square."""
        parts = []
        for start in range(0, len(images), _BATCH):
            batch = np.stack([self.fit(image) for image in images[start : start + _BATCH]])
            parts.append(self.network.encode(to_pixels(batch)).numpy())
            progress(min(start + _BATCH, len(images)))
        return np.concatenate(parts) if parts else np.zeros((0, *self.grid), np.int64)

    def encode_sized(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]], max_side: int
    ) -> list[Int[np.ndarray, "rows columns"]]:
        """Codes of pictures that keep their shapes, at most `max_side` rows and columns."""
        fitted = [self.fit(image, max_side) for image in images]
        codes: dict[int, np.ndarray] = {}
        for shape in sorted({f.shape for f in fitted}):
            alike = [i for i, f in enumerate(fitted) if f.shape == shape]
            for start in range(0, len(alike), _BATCH):
                part = alike[start : start + _BATCH]
                encoded = self.network.encode(to_pixels(np.stack([fitted[i] for i in part])))
                codes.update(zip(part, encoded.numpy(), strict=True))
        return [codes[i] for i in range(len(images))]

    @torch.no_grad()
    def decode(
        self, codes: Int[np.ndarray, "images rows columns"]
    ) -> UInt8[np.ndarray, "images height width 3"]:
        """Pictures of codes.

        Raises:
            ImageError: a code outside the codebook.
        """
        codes = np.asarray(codes, np.int64)
        if codes.size and (codes.min() < 0 or codes.max() >= self.config.codebook_size):
            raise ImageError(
                f"codes {codes.min()}..{codes.max()} are outside the codebook of "
                f"{self.config.codebook_size}: they come from another tokenizer"
            )
        parts = [
            to_uint8(self.network.decode(torch.from_numpy(codes[start : start + _BATCH])))
            for start in range(0, len(codes), _BATCH)
        ]
        size = self.config.resolution
        return np.concatenate(parts) if parts else np.zeros((0, size, size, 3), np.uint8)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write configuration and weights; float16 halves the file and rounds the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(dump_config(self.config))
        weights = {name: t.to(dtype) for name, t in self.network.state_dict().items()}
        save_tensors(weights, folder / WEIGHTS_FILE)

    def fit(
        self, image: UInt8[np.ndarray, "height width 3"], max_side: int = 0
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture as the network takes it: scaled to fit, padded to a white square.

        With `max_side` it keeps its shape: whole codes, at most so many a side, never enlarged by
        more than to fill its last code.
        """
        if not max_side:
            return fit_square(image, self.config.resolution)
        sides = self._sides((image.shape[0], image.shape[1]), max_side)
        if image.shape[:2] == sides:
            return image
        resized = Image.fromarray(image).resize(sides[::-1], Image.Resampling.LANCZOS)
        return np.asarray(resized)

    def fit_mask(
        self, mask: Bool[np.ndarray, "height width"], max_side: int = 0
    ) -> Bool[np.ndarray, "h w"]:
        """The mask of a fitted picture: True wherever a masked pixel falls, however thin."""
        width, height = mask.shape[::-1]
        sides = self._sides((height, width), max_side)
        resized = Image.fromarray(mask.astype(np.float32)).resize(sides[::-1], Image.Resampling.BOX)
        fitted = np.asarray(resized) > 0
        if max_side:
            return fitted
        size = self.config.resolution
        canvas = np.zeros((size, size), bool)
        top, left = ((size - side) // 2 for side in sides)
        canvas[top : top + sides[0], left : left + sides[1]] = fitted
        return canvas

    def _sides(self, shape: tuple[int, int], max_side: int) -> tuple[int, int]:
        """Rows and columns of pixels of a fitted picture, before it is padded."""
        if not max_side:
            return scaled_sides(shape, self.config.resolution)
        cell = self.config.downsample_factor
        scale = min(1.0, max_side * cell / max(shape))
        height, width = (min(max(1, round(n * scale / cell)), max_side) * cell for n in shape)
        return height, width


def load_image_tokenizer(folder: Path) -> ImageTokenizer:
    """Read a tokenizer folder; weights are computed with in float32.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the configuration.
        ConfigError: the configuration is not one.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} is no image tokenizer: it lacks {CONFIG_FILE}")
    config = load_config(VQGANConfig, folder / CONFIG_FILE)
    network = VQGAN(config)
    weights = {name: t.float() for name, t in load_tensors(folder / WEIGHTS_FILE).items()}
    load_into(network, weights, str(folder / WEIGHTS_FILE))
    return ImageTokenizer(config, network)


def codebook_fingerprint(quantizer: VectorQuantizer) -> str:
    """sha256 over the numbers as stored: normalised ones differ between processors."""
    stored = fingerprint_tensors({"codebook": quantizer.embedding.weight})
    return fingerprint_of({"codebook": stored, "l2_normalized": quantizer.l2_normalized})


def to_pixels(images: UInt8[np.ndarray, "batch height width 3"]) -> Tensor:
    """uint8 to float pixels in [-1, 1], (B, 3, H, W)."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1


def to_uint8(pixels: Tensor) -> UInt8[np.ndarray, "batch height width 3"]:
    """Pixels in [-1, 1], (B, 3, H, W), to uint8 (B, H, W, 3)."""
    scaled = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().numpy()


def fit_square(image: UInt8[np.ndarray, "height width 3"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Scale the longer side to `size` and pad to a white square."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    sides = scaled_sides((height, width), size)
    resized = Image.fromarray(image).resize(sides[::-1], Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(resized, ((size - sides[1]) // 2, (size - sides[0]) // 2))
    return np.asarray(canvas)


def fit_squares(
    images: Iterable[UInt8[np.ndarray, "height width 3"]], size: int
) -> UInt8[np.ndarray, "images size size 3"]:
    """Each as `fit_square`; one at least."""
    return np.stack([fit_square(image, size) for image in images])


def scaled_sides(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Height and width of a picture whose longer side becomes `size`."""
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))

"""Video tokenizer: a trained causal video VQ with its configuration, from clips to codes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genvlm.config.schema import dump_config, load_config, to_plain
from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.errors import CheckpointError, ConfigError, VideoError
from genvlm.nn.safetensors_folder import (
    fingerprint_of,
    fingerprint_tensors,
    load_into,
    load_tensors,
    save_tensors,
)
from genvlm.tokenization.image import (
    ImageTokenizer,
    codebook_fingerprint,
    fit_squares,
    to_pixels,
    to_uint8,
)
from genvlm.tokenization.video_vqgan import VideoVQ

CONFIG_FILE = "video.yaml"
WEIGHTS_FILE = "video.safetensors"
# Latent frames of one pass of the encoder. Always so many, filled up with nothing: matrix products
# of another size differ in the last bits, and a code that is as near as another would depend on
# what else is encoded. One at a time takes longer; a live stream pays for all of them.
_PASS = 4

Frames = np.ndarray
"""A clip, uint8 (frames, height, width, 3)."""


class VideoTokenizer:
    """Encodes clips of 1 + r k uint8 RGB frames as 1 + k grids of codes."""

    def __init__(self, config: VideoVQConfig, network: VideoVQ) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of a latent frame."""
        return self.config.image.grid_size, self.config.image.grid_size

    @property
    def frames_per_latent(self) -> int:
        """r."""
        return self.config.frames_per_latent

    @property
    def codebook(self) -> Float[Tensor, "codes dim"]:
        """The vectors that codes stand for."""
        return self.network.image.quantize.codebook

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights and configuration."""
        weights = fingerprint_tensors(self.network.state_dict())
        return fingerprint_of({"weights": weights, "model": to_plain(self.config)})

    @cached_property
    def codebook_fingerprint(self) -> str:
        """As an image tokenizer's: with an equal one, pictures and frames share token ids."""
        return codebook_fingerprint(self.network.image.quantize)

    def fit(self, frames: Sequence[np.ndarray] | Frames) -> UInt8[np.ndarray, "frames s s 3"]:
        """Frames as the network takes them: scaled to fit, padded to a white square."""
        return fit_squares(frames, self.config.image.resolution)

    @torch.no_grad()
    def encode(
        self, clips: Sequence[Frames], progress: Callable[[int], None] = lambda done: None
    ) -> list[Int[np.ndarray, "latents rows columns"]]:
        """Codes of clips of any size and of 1 + r k frames each; T = 1 is a picture.

        Later frames change no earlier code, and neither do the other clips.

        Raises:
            VideoError: a number of frames that does not fit r.
        """
        for number, clip in enumerate(clips, 1):
            try:
                self.config.num_latents(len(clip))
            except ConfigError as error:
                raise VideoError(f"clip {number} of {len(clips)}: {error}") from None
        codes: list[np.ndarray] = []
        # A pass holds latent frames of several clips: one clip alone does not fill it.
        for start in range(0, len(clips), _PASS):
            codes += self._encode_clips(clips[start : start + _PASS])
            progress(len(codes))
        return codes

    def _encode_clips(self, clips: Sequence[Frames]) -> list[Int[np.ndarray, "latents h w"]]:
        frames = [to_pixels(self.fit(clip)) for clip in clips]
        groups = [one[1:].unflatten(0, (-1, self.frames_per_latent)) for one in frames]
        first = self._encode_first(torch.cat([one[:1] for one in frames]))
        later = self._encode_groups(torch.cat(groups)).split([len(one) for one in groups])
        return [torch.cat([a[None], b]).numpy() for a, b in zip(first, later, strict=True)]

    def _encode_first(self, frames: Tensor) -> Int[Tensor, "frames rows columns"]:
        return _in_passes(self.network.image.encode, frames)

    def _encode_groups(self, groups: Tensor) -> Int[Tensor, "groups rows columns"]:
        if len(groups) == 0:
            return torch.zeros(0, *self.grid, dtype=torch.long)
        return _in_passes(self.network.encode_groups, groups)

    @torch.no_grad()
    def encode_stream(
        self, frames: Iterable[UInt8[np.ndarray, "height width 3"]]
    ) -> Iterator[Int[np.ndarray, "rows columns"]]:
        """Codes as frames come in: of the first one, and then whenever r more are there.

        Frames at the end that do not fill a group give none. Memory does not grow.
        """
        frames = iter(frames)
        for first in islice(frames, 1):
            yield self._encode_first(to_pixels(self.fit(first[None])))[0].numpy()
        while len(group := list(islice(frames, self.frames_per_latent))) == self.frames_per_latent:
            yield self._encode_groups(to_pixels(self.fit(group))[None])[0].numpy()

    @torch.no_grad()
    def decode(
        self, codes: Sequence[Int[np.ndarray, "latents rows columns"]]
    ) -> list[UInt8[np.ndarray, "frames height width 3"]]:
        """Clips of codes. Later codes change no earlier frame by more than rounding.

        Raises:
            VideoError: no latent frame, or a code outside the codebook.
        """
        size = self.config.image.codebook_size
        clips = []
        for one in codes:
            one = np.asarray(one, np.int64)
            if one.size == 0:
                raise VideoError("there are no codes to decode: give 1 latent frame or more")
            if one.min() < 0 or one.max() >= size:
                raise VideoError(
                    f"codes {one.min()}..{one.max()} are outside the codebook of {size}: they come "
                    "from another tokenizer"
                )
            clips.append(to_uint8(self.network.decode(torch.from_numpy(one)[None])[0]))
        return clips

    def save(
        self, folder: Path, *, dtype: torch.dtype = torch.float32, exact: tuple[str, ...] = ()
    ) -> None:
        """Write configuration and weights; float16 halves the file and rounds the weights.

        Args:
            exact: how names of tensors begin that are not rounded, such as `PICTURE_CODES`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(dump_config(self.config))
        weights = {}
        for name, tensor in self.network.state_dict().items():
            rounded = tensor.to(dtype)
            kept = name.startswith(exact) and not torch.equal(rounded.to(tensor.dtype), tensor)
            weights[name] = tensor if kept else rounded
        save_tensors(weights, folder / WEIGHTS_FILE)


def _in_passes(encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Codes of first frames, or of groups, always `_PASS` at once."""
    filled = torch.cat([rows, rows.new_zeros(-len(rows) % _PASS, *rows.shape[1:])])
    return torch.cat([encode(part) for part in filled.split(_PASS)])[: len(rows)]


def inflate(image: ImageTokenizer, config: VideoVQConfig) -> VideoTokenizer:
    """A video tokenizer that begins as an image tokenizer on every r-th frame.

    Raises:
        ConfigError: `config.image` is not the shape of the image tokenizer.
    """
    if config.image != image.config:
        raise ConfigError("the video tokenizer's `image` is not the shape of the image tokenizer")
    network = VideoVQ(config)
    network.image.load_state_dict(image.network.state_dict())
    return VideoTokenizer(config, network)


def load_video_tokenizer(folder: Path) -> VideoTokenizer:
    """Read a tokenizer folder; weights are computed with in float32.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the configuration.
        ConfigError: the configuration is not one.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} is no video tokenizer: it lacks {CONFIG_FILE}")
    config = load_config(VideoVQConfig, folder / CONFIG_FILE)
    network = VideoVQ(config)
    weights = {name: t.float() for name, t in load_tensors(folder / WEIGHTS_FILE).items()}
    load_into(network, weights, str(folder / WEIGHTS_FILE))
    return VideoTokenizer(config, network)

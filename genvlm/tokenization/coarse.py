"""A coarser tokenizer from a trained one: its codes merged into fewer, nothing trained.

Like patches of two artists most often have different codes of 8,192 and the same of 100: what is
learned about the coarse codes of one artist's drawings holds for the other's. So it is with what
moves: of two codes for nearly the same, nobody could know which comes next.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.errors import ConfigError
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.video import VideoTokenizer
from genvlm.tokenization.video_vqgan import VideoVQ
from genvlm.tokenization.vqgan import VQGAN

_ROUNDS = 100
_CODEBOOK = "quantize.embedding.weight"


def merge_codes(tokenizer: ImageTokenizer, num_codes: int) -> ImageTokenizer:
    """The same encoder and decoder around `num_codes` codes, the k-means of the codebook.

    Needs no picture; every old code counts once. The same codebook gives the same coarse one.

    Raises:
        ConfigError: the tokenizer does not have more codes than that.
    """
    config = replace(tokenizer.config, codebook_size=num_codes)
    centres = _merged(tokenizer.codebook, tokenizer.config, num_codes)
    network = VQGAN(config)
    network.load_state_dict(tokenizer.network.state_dict() | {_CODEBOOK: centres})
    return ImageTokenizer(config, network)


def merge_video_codes(tokenizer: VideoTokenizer, num_codes: int) -> VideoTokenizer:
    """The same for clips. What had one codebook with an image tokenizer still has.

    Raises:
        ConfigError: the tokenizer does not have more codes than that.
    """
    config = replace(
        tokenizer.config, image=replace(tokenizer.config.image, codebook_size=num_codes)
    )
    centres = _merged(tokenizer.codebook, tokenizer.config.image, num_codes)
    network = VideoVQ(config)
    network.load_state_dict(tokenizer.network.state_dict() | {f"image.{_CODEBOOK}": centres})
    return VideoTokenizer(config, network)


def _merged(codebook: Tensor, config: VQGANConfig, num: int) -> Float[Tensor, "num dim"]:
    if num >= len(codebook):
        raise ConfigError(f"{len(codebook)} codes cannot be merged into {num}: ask for fewer")
    return _k_means(codebook.float(), num, sphere=config.l2_normalized)


def _k_means(
    points: Float[Tensor, "points dim"], num: int, *, sphere: bool
) -> Float[Tensor, "num dim"]:
    """Lloyd's algorithm from points drawn by a fixed seed; on the unit sphere where they lie on it.

    A centre that loses all its points stays where it is.
    """
    generator = torch.Generator().manual_seed(0)
    centres = points[torch.randperm(len(points), generator=generator)[:num]]
    nearest: Int[Tensor, " points"] | None = None
    for _ in range(_ROUNDS):
        before = nearest
        bias = -0.5 * centres.square().sum(-1)
        nearest = torch.addmm(bias, points, centres.T).argmax(-1)
        if before is not None and torch.equal(nearest, before):
            break
        counts = torch.bincount(nearest, minlength=num)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        means = sums / counts.clamp_min(1)
        centres = torch.where(counts > 0, F.normalize(means, dim=-1) if sphere else means, centres)
    return centres

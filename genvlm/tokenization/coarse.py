"""A coarser image tokenizer from a trained one: its codes merged into fewer, nothing trained.

Like patches of two artists most often have different codes of 8,192 and the same of 100: what is
learned about the coarse codes of one artist's drawings holds for the other's.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.errors import ConfigError
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.vqgan import VQGAN

_ROUNDS = 100


def merge_codes(tokenizer: ImageTokenizer, num_codes: int) -> ImageTokenizer:
    """The same encoder and decoder around `num_codes` codes, the k-means of the codebook.

    Needs no picture; every old code counts once. The same codebook gives the same coarse one.

    Raises:
        ConfigError: the tokenizer does not have more codes than that.
    """
    size = tokenizer.config.codebook_size
    if num_codes >= size:
        raise ConfigError(f"{size} codes cannot be merged into {num_codes}: ask for fewer")
    centres = _k_means(tokenizer.codebook.float(), num_codes, sphere=tokenizer.config.l2_normalized)
    config = replace(tokenizer.config, codebook_size=num_codes)
    network = VQGAN(config)
    weights = tokenizer.network.state_dict() | {"quantize.embedding.weight": centres}
    network.load_state_dict(weights)
    return ImageTokenizer(config, network)


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

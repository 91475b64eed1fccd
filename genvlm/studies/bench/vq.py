"""`genvlm bench vq`: nearest code of a large codebook, against taming-transformers."""

import contextlib
import io
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.errors import ConfigError, EvaluationError
from genvlm.nn.quantizer import VectorQuantizer
from genvlm.studies.bench.report import Result, Row, time_row
from genvlm.studies.bench.timing import Settings, ratio_of_medians, time_interleaved

_CODES, _IMAGES, _SIDE = 16_384, 4, 16
_QUICK_CODES, _QUICK_IMAGES = 256, 1
_BARS = {8: 4.0, 32: 4.0, 256: 1.5}
_METHOD = (
    "Codes of random latents, float32, the codebook copied into both. Lookup: "
    "`VectorQuantizer.nearest` against the distances of `taming.modules.vqvae.quantize."
    "VectorQuantizer` (|z|^2 + |e|^2 - 2 z.e of all pairs, then argmin) written out, without its "
    "one-hot product. Whole: `forward` of both modules with their losses, no gradient. Codes were "
    "equal before anything was timed, or equally near in float64."
)


def run(settings: Settings) -> Result:
    """Three codebook dimensions. Raises EvaluationError: other codes than taming's."""
    torch.set_num_threads(settings.threads)
    size = _QUICK_CODES if settings.quick else _CODES
    images = _QUICK_IMAGES if settings.quick else _IMAGES
    rows: list[Row] = []
    with torch.no_grad():
        for dim, bar in _BARS.items():
            settings.say(f"dimension {dim}")
            rows += _rows(size, images, dim, bar, settings)
    return Result(
        bench="vq",
        shape=f"{size} codes, {images} x {_SIDE} x {_SIDE} latents",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts={},
    )


def their_quantizer(ours: VectorQuantizer) -> Any:
    """taming's module with our codebook. Raises ConfigError: taming is not installed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from taming.modules.vqvae.quantize import VectorQuantizer as TamingQuantizer
    except ImportError:
        raise ConfigError(
            "this benchmark compares with taming: pip install --no-deps taming-transformers==0.0.1"
        ) from None
    theirs = TamingQuantizer(*ours.embedding.weight.shape, beta=0.25)
    theirs.embedding.weight.copy_(ours.embedding.weight)
    return theirs.eval()


def their_codes(
    theirs: Any, latents: Float[Tensor, "batch dim height width"]
) -> Int[Tensor, "batch height width"]:
    """taming's distances of all pairs and the argmin, as its `forward` begins."""
    z = latents.permute(0, 2, 3, 1).contiguous()
    flat, weight = z.view(-1, theirs.e_dim), theirs.embedding.weight
    distances = (
        torch.sum(flat**2, dim=1, keepdim=True)
        + torch.sum(weight**2, dim=1)
        - 2 * torch.matmul(flat, weight.t())
    )
    return torch.argmin(distances, dim=1).view(z.shape[:-1])


def check_codes(ours: Tensor, theirs: Tensor, latents: Tensor, codebook: Tensor) -> None:
    """Raises EvaluationError unless codes are equal or, in float64, equally near."""
    flat = latents.double().permute(0, 2, 3, 1).flatten(0, 2)
    first, second = (
        (flat - codebook.double()[codes.flatten()]).square().sum(1) for codes in (ours, theirs)
    )
    further = (first - second).abs() > 1e-5 * second.clamp(min=1e-12)
    if bool((further & (ours != theirs).flatten()).any()):
        raise EvaluationError(
            f"{int(further.sum())} of {ours.numel()} codes differ from taming's: answers that are "
            "not equal are not timed"
        )


def _rows(size: int, images: int, dim: int, bar: float, settings: Settings) -> list[Row]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(dim)
        quantizer = VectorQuantizer(size, dim, l2_normalized=False).eval()
        quantizer.embedding.weight.normal_()
        latents = torch.randn(images, dim, _SIDE, _SIDE)
    theirs = their_quantizer(quantizer)
    check_codes(
        quantizer.nearest(latents), their_codes(theirs, latents), latents, quantizer.codebook
    )
    seconds = time_interleaved(
        {
            "lookup": lambda: quantizer.nearest(latents),
            "their lookup": lambda: their_codes(theirs, latents),
            "whole": lambda: quantizer(latents),
            "their whole": lambda: theirs(latents),
        },
        settings.num,
    )
    return [
        time_row(
            f"{name}, dim {dim}", f"taming's {what}", float(np.median(seconds[name])),
            float(np.median(seconds[f"their {name}"])),
            ratio_of_medians(seconds[f"their {name}"], seconds[name]), settings, bar=wanted,
        )
        for name, what, wanted in (("lookup", "distances", bar), ("whole", "forward", None))
    ]  # fmt: skip

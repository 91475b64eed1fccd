"""Training of a video tokenizer: weights, card, metrics, and pictures of reconstructions.

Whatever is measured is of clips that training has not seen, and stands beside the image tokenizer:
frame by frame (which takes more tokens), and at as many tokens, where only every r-th frame is
kept and the others are drawn between two kept ones or repeat the last one.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from genvlm.config.assets import resolve_path
from genvlm.config.data import CameraSource, MovingEmojiSource, PhysicsSource, VideosSource
from genvlm.config.schema import dump_config
from genvlm.config.video_tokenizer import ClipSource, VideoVQTrainConfig
from genvlm.data.camera import sample_camera_clips
from genvlm.data.emoji import LICENCES, UNSEEN_VENDOR, Vendor
from genvlm.data.moving_emoji import sample_moving_emoji
from genvlm.data.physics.scenes import sample_clips
from genvlm.errors import CheckpointError, ConfigError
from genvlm.nn.whole_files import write_whole
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer, to_pixels
from genvlm.tokenization.video import VideoTokenizer, inflate, load_video_tokenizer
from genvlm.tokenization.video_vqgan import PICTURE_CODES
from genvlm.training.video_tokenizer import train_video_vq

Clips = Sequence[np.ndarray]
"""uint8 (T, H, W, 3) each."""
_NUM_CLIPS = 50
# Clips that are encoded, decoded and compared before progress is told.
_AT_ONCE = 4
_NUM_FRAMES = 17
# Of the clips of physics and of a camera that are measured, from which no recipe may draw.
_HELD_OUT_SEED = 977
_SHOWN = 3
CARD_FILE = "README.md"
_EVERY_FRAME = "image tokenizer, every frame"
_WAYS = (
    "video tokenizer",
    _EVERY_FRAME,
    "image tokenizer, frames between drawn",
    "image tokenizer, last frame held",
)
_MEASURED_VENDORS: tuple[Vendor, ...] = ("noto", UNSEEN_VENDOR)


def train_video_tokenizer(
    config: VideoVQTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Inflate an image tokenizer, train it in `out` and publish it as `out/tokenizer`.

    Args:
        on_clip: called with held-out clips measured and to be measured, once training is over.

    Raises:
        ConfigError: a source has the seed of the clips that are measured.
    """
    for number, source in enumerate(config.sources):
        if isinstance(source, PhysicsSource | CameraSource) and source.seed == _HELD_OUT_SEED:
            raise ConfigError(
                f"sources.{number} has seed {_HELD_OUT_SEED}, that of the clips which are "
                "measured in the end: choose another"
            )
    image = load_image_tokenizer(resolve_path(config.initial))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        tokenizer = inflate(image, config.model(image.config))
    network = train_video_vq(
        tokenizer.network, config, out, resume=resume, on_step=on_step, say=say
    )
    folder = out / "tokenizer"
    tokenizer = VideoTokenizer(tokenizer.config, network)
    if resume and _is_published(tokenizer, config, folder):
        say(f"{folder} is whole: nothing to do")
        return folder
    say("measuring on held-out clips")
    return publish_video_tokenizer(tokenizer, image, config, folder, on_clip=on_clip)


def _is_published(tokenizer: VideoTokenizer, config: VideoVQTrainConfig, folder: Path) -> bool:
    """Whether `folder` holds these weights, as stored, and the card, which is written last."""
    if not (folder / CARD_FILE).is_file():
        return False
    try:
        stored = load_video_tokenizer(folder).network.state_dict()
    except (CheckpointError, ConfigError):
        return False
    dtype = _dtype(config)
    return all(
        torch.equal(stored[name], tensor) or torch.equal(stored[name], tensor.to(dtype).float())
        for name, tensor in tokenizer.network.state_dict().items()
    )


def _dtype(config: VideoVQTrainConfig) -> torch.dtype:
    return torch.float16 if config.weights_dtype == "float16" else torch.float32


def publish_video_tokenizer(
    tokenizer: VideoTokenizer,
    image: ImageTokenizer,
    config: VideoVQTrainConfig,
    folder: Path,
    *,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write weights, recipe, metrics, pictures and card. Metrics are of the weights as stored."""
    (folder / CARD_FILE).unlink(missing_ok=True)
    # Rounded, a codebook would be another one than the image tokenizer's.
    tokenizer.save(folder, dtype=_dtype(config), exact=() if config.train_codes else PICTURE_CODES)
    tokenizer = load_video_tokenizer(folder)
    sets = held_out_clips()
    metrics, total = {}, sum(len(clips) for clips in sets.values())
    for number, (name, clips) in enumerate(sets.items()):
        before = sum(len(clips) for clips in list(sets.values())[:number])

        def measured(done: int, before: int = before) -> None:
            on_clip(before + done, total)

        metrics[name] = measure_video_tokenizer(tokenizer, image, clips, on_clip=measured)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (folder / "recipe.yaml").write_text(dump_config(config))
    clips = [clip for of_set in sets.values() for clip in of_set[:_SHOWN]]
    reconstruction_picture(tokenizer, clips).save(folder / "reconstructions.png", optimize=True)
    write_whole(folder / CARD_FILE, _card(tokenizer, config, metrics))
    return folder


def held_out_clips(num: int | None = None) -> dict[str, Clips]:
    """Clips that no recipe trains on, by name: of another seed, and of held-out pairs.

    `num` of each set, as many as a card is of by default; those of fewer are the first of more.

    Fluent's drawings are those of a vendor that the shipped recipes do not see.
    """
    num = num or _NUM_CLIPS
    moving = list(sample_moving_emoji(num, _HELD_OUT_SEED, num_frames=_NUM_FRAMES, held_out=True))
    simulated = sample_clips(num, _HELD_OUT_SEED, num_frames=_NUM_FRAMES)
    sets: dict[str, Clips] = {"physics": [clip.render() for clip in simulated]}
    for vendor in _MEASURED_VENDORS:
        sets[f"moving emoji, {vendor}"] = [clip.render(vendor) for clip in moving]
    for vendor in _MEASURED_VENDORS:
        filmed = sample_camera_clips(num, _HELD_OUT_SEED, _NUM_FRAMES, vendors=(vendor,))
        sets[f"camera, {vendor}"] = [clip.render() for clip in filmed]
    return sets


def measure_video_tokenizer(
    tokenizer: VideoTokenizer,
    image: ImageTokenizer,
    clips: Clips,
    *,
    on_clip: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, float]]:
    """Metrics of the tokenizer and of three ways to use the image tokenizer, by way.

    PSNR (mean over frames, dB), SSIM, and the temporal-difference error: mean absolute error of the
    change from each frame to the next, in grey levels of 255. Of the tokenizer also the share of
    codes that were used and the perplexity as a share of the codebook.

    Args:
        on_clip: called with the number of clips that are done.
    """
    r, tokens = tokenizer.frames_per_latent, tokenizer.grid[0] * tokenizer.grid[1]
    counts = np.zeros(len(tokenizer.codebook), np.int64)
    errors: dict[str, list[_Errors]] = {way: [] for way in _WAYS}
    num_latents = 0
    for start in range(0, len(clips), _AT_ONCE):
        some = [tokenizer.fit(clip) for clip in clips[start : start + _AT_ONCE]]
        codes = tokenizer.encode(some)
        num_latents += sum(len(c) for c in codes)
        counts += np.bincount(np.concatenate([c.ravel() for c in codes]), minlength=len(counts))
        for clip, ours in zip(some, tokenizer.decode(codes), strict=True):
            frames = image.decode(image.encode(list(clip)))
            held = frames[np.arange(len(frames)) // r * r]
            decoded = (ours, frames, _interpolated(frames, r), held)
            for way, one in zip(_WAYS, decoded, strict=True):
                errors[way].append(_errors(clip, one))
        on_clip(start + len(some))
    shares = counts[counts > 0] / counts.sum()
    metrics = {way: _means(of_way) for way, of_way in errors.items()}
    for way in metrics:
        kept = sum(map(len, clips)) if way == _EVERY_FRAME else num_latents
        metrics[way]["tokens"] = kept * tokens / len(clips)
    metrics[_WAYS[0]] |= {
        "codes_used": float((counts > 0).mean()),
        "perplexity_share": float(np.exp(-(shares * np.log(shares)).sum()) / len(counts)),
    }
    return metrics


class _Errors(NamedTuple):
    """Of one clip."""

    decibels: np.ndarray
    """PSNR of each frame."""
    ssim: float
    temporal_difference: float


def _errors(clip: np.ndarray, decoded: np.ndarray) -> _Errors:
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    truth, seen = clip.astype(np.float64), decoded.astype(np.float64)
    squared = ((truth - seen) ** 2).mean((1, 2, 3))
    return _Errors(
        decibels=10 * np.log10(255**2 / np.maximum(squared, 1e-3)),
        ssim=float(ssim(to_pixels(decoded), to_pixels(clip), data_range=2.0)),
        temporal_difference=float(np.abs(np.diff(truth, axis=0) - np.diff(seen, axis=0)).mean()),
    )


def _means(errors: Sequence[_Errors]) -> dict[str, float]:
    return {
        "clips": len(errors),
        "psnr_db": float(np.concatenate([e.decibels for e in errors]).mean()),
        "ssim": float(np.mean([e.ssim for e in errors])),
        "temporal_difference": float(np.mean([e.temporal_difference for e in errors])),
    }


def _interpolated(frames: np.ndarray, r: int) -> np.ndarray:
    """Every r-th frame, and between two of them their mixtures."""
    at = np.arange(len(frames))
    before = at // r * r
    after = np.minimum(before + r, len(frames) - 1)
    share = ((at - before) / r)[:, None, None, None]
    mixed = (1 - share) * frames[before] + share * frames[after]
    return np.asarray(mixed.round(), np.uint8)


def reconstruction_picture(tokenizer: VideoTokenizer, clips: Clips) -> Image.Image:
    """Every other frame of each clip over its reconstruction."""
    decoded = tokenizer.decode(tokenizer.encode(clips))
    rows = [
        np.concatenate(list(one[::2]), 1)
        for clip, again in zip(clips, decoded, strict=True)
        for one in (tokenizer.fit(clip), again)
    ]
    return Image.fromarray(np.concatenate(rows, 0)).quantize(256)


def _card(
    tokenizer: VideoTokenizer,
    config: VideoVQTrainConfig,
    metrics: dict[str, dict[str, dict[str, float]]],
) -> str:
    millions = f"{sum(p.numel() for p in tokenizer.network.parameters()) / 1e6:.2f} M"
    r, (rows, columns) = tokenizer.frames_per_latent, tokenizer.grid
    size = tokenizer.config.image.resolution
    shared = (
        "Its codebook is also its own."
        if config.train_codes
        else "Image encoder and codebook are\nthe image tokenizer's and were not trained: the "
        "codes of a first frame are those of the picture, and\nboth share their token ids."
    )
    trained = "\n".join(f"- {_described(source)}" for source in config.sources)
    pictured = " and ".join(LICENCES[vendor] for vendor in _MEASURED_VENDORS)
    num = next(iter(metrics.values()))["video tokenizer"]["clips"]
    return (
        f"""# Video tokenizer: {size}x{size} clips

Causal 3-D VQ, inflated from `{config.initial}`: 1 + {r} k frames become 1 + k grids
of {rows}x{columns} codes. {millions} parameters, stored as {config.weights_dtype}, computed in
float32. No later frame changes an earlier code. {shared}

    genvlm train recipe.yaml --out runs/mine

`recipe.yaml` beside this card is what it was trained with, {config.num_steps:,} steps with
{config.batch_size} clips a batch of {config.num_frames} frames, an equal share from each of:

{trained}

Held-out clips of {_NUM_FRAMES} frames, {num} a set (simulations and clips of a camera of another
seed; pairs of a drawing and a direction that no training clip has), beside the image tokenizer: on
every frame, and on as many tokens as the video tokenizer has.{_unseen(config, metrics)}

{_tables(metrics, r)}

`reconstructions.png`: every other frame over its reconstruction, three clips a set, with
drawings of {pictured}.

{_licences(config)}""".rstrip()
        + "\n"
    )


def _tables(metrics: dict[str, dict[str, dict[str, float]]], r: int) -> str:
    rows = "\n".join(
        f"| {name} | {way} | {m['tokens']:.0f} | {m['psnr_db']:.2f} | {m['ssim']:.3f} "
        f"| {m['temporal_difference']:.2f} |"
        for name, ways in metrics.items()
        for way, m in ways.items()
    )
    usage = "\n".join(
        f"| {name} | {100 * m['codes_used']:.1f} | {m['perplexity_share']:.3f} |"
        for name, ways in metrics.items()
        for m in (ways["video tokenizer"],)
    )
    return f"""| clips | tokenizer | tokens | PSNR dB | SSIM | error of change, grey levels |
|---|---|---|---|---|---|
{rows}

PSNR: mean over frames. Error of change: mean absolute error of the difference of neighbouring
frames. "Frames between drawn": every {r}th frame is kept, and those between are mixtures of two;
"last frame held": they repeat the one before.

| clips | codes used % | perplexity / codebook |
|---|---|---|
{usage}"""


def _drawn_by(config: VideoVQTrainConfig) -> set[Vendor]:
    """Vendors of the drawings that it was trained on."""
    drawn = [s for s in config.sources if isinstance(s, MovingEmojiSource | CameraSource)]
    return {vendor for source in drawn for vendor in source.vendors}


def _unseen(config: VideoVQTrainConfig, metrics: dict[str, dict[str, dict[str, float]]]) -> str:
    """Which of the measured sets are of another vendor or kind than its training clips."""
    said, vendors = "", _drawn_by(config)
    if vendors and UNSEEN_VENDOR not in vendors:
        said = f" {UNSEEN_VENDOR.capitalize()}'s were not seen."
    kinds = {source.kind.replace("_", " ") for source in config.sources}
    other = dict.fromkeys(k for k in (name.split(",")[0] for name in metrics) if k not in kinds)
    if other:
        said += f"\nIt was trained on no clips of the kind of: {', '.join(other)}."
    return said


def _licences(config: VideoVQTrainConfig) -> str:
    vendors = _drawn_by(config)
    lines = [f"- {licence}" for vendor, licence in LICENCES.items() if vendor in vendors]
    return "\n".join(["The drawings that it was trained on:", *lines]) if lines else ""


def _described(source: ClipSource) -> str:
    frames = f"{source.num_frames} frames"
    match source:
        case PhysicsSource():
            return f"`physics`: {source.num:,} simulated clips of {frames}, seed {source.seed}"
        case VideosSource():
            rate = source.frames_per_second
            resampled = "" if rate is None else f" at {rate:g} a second"
            return f"`videos`: clips of {frames}{resampled} from `{source.path}`"
        case _:
            names = " and ".join(vendor.capitalize() for vendor in source.vendors)
            return (
                f"`{source.kind}`: {source.num:,} clips of {frames} with drawings of {names}, seed "
                f"{source.seed}"
            )

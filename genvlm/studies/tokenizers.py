"""Training of the shipped tokenizers: weights, card, metrics and a picture of reconstructions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genvlm.config.assets import resolve_path
from genvlm.config.image_tokenizer import VQGANTrainConfig
from genvlm.config.schema import dump_config
from genvlm.config.text_tokenizer import TextTokenizerConfig
from genvlm.data.emoji import (
    LICENCES,
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    load_drawings,
    split_concepts,
)
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.data.stories import sample_stories
from genvlm.errors import ConfigError, TrainingError
from genvlm.evaluation.scene_reader import judge_scenes, reading_shares
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer, to_pixels
from genvlm.tokenization.text import train_sentencepiece
from genvlm.tokenization.vqgan import VQGAN
from genvlm.training.adversarial import train_vqgan
from genvlm.training.launch import check_alone

_SCENES = "noto, scenes of held-out pairs"
_NUM_SCENES = 400


def train_text_tokenizer(config: TextTokenizerConfig, out: Path) -> Path:
    """Train a SentencePiece model and publish it as `out/tokenizer`.

    Raises:
        TrainingError: there is one already, or several processes were started.
    """
    check_alone("a text tokenizer")
    folder = out / "tokenizer"
    if folder.exists():
        raise TrainingError(f"{folder} is there already: choose another --out")
    captions = [c for concept in split_concepts(held_out=False) for c in concept.captions]
    scenes = sample_scenes(config.num_scenes, config.seed, three=0.3, counts=0.3)
    stories = sample_stories(config.num_stories, config.seed)
    sentences = [
        *captions,
        *(scene.caption for scene in scenes),
        *(sentence for story in stories for sentence in story.sentences),
    ]
    tokenizer = train_sentencepiece(sentences, vocab_size=config.vocab_size)
    folder.mkdir(parents=True)
    tokenizer.save(folder)
    pieces = [len(tokenizer.encode(s)) for s in sentences]
    (folder / "recipe.yaml").write_text(dump_config(config))
    (folder / "README.md").write_text(
        f"""# Text tokenizer: emoji captions and scenes

SentencePiece BPE with byte fallback, {tokenizer.size:,} pieces, no normalization. Trained on
{len(sentences):,} sentences (labels and captions of the training families, composed scenes,
stories); {np.mean(pieces):.2f} pieces a sentence on average, longest {max(pieces)}.

    genvlm train configs/train/text-emoji.yaml --out runs/text-emoji

Text of the labels: Unicode CLDR, emojibase and emojilib (MIT).
"""
    )
    return folder


def train_image_tokenizer(
    config: VQGANTrainConfig,
    out: Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, terms: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train a VQ-GAN in `out` and publish it as `out/tokenizer`."""
    initial = None
    if config.initial is not None:
        tokenizer = load_image_tokenizer(resolve_path(config.initial))
        if tokenizer.config != config.model:
            raise ConfigError(f"initial: {config.initial} has another shape than `model`")
        initial = tokenizer.network.requires_grad_(True)
    network = train_vqgan(config, out, resume=resume, initial=initial, on_step=on_step, say=say)
    return publish_image_tokenizer(network, config, out / "tokenizer")


def publish_image_tokenizer(network: VQGAN, config: VQGANTrainConfig, folder: Path) -> Path:
    """Write weights, recipe, metrics, picture and card. Metrics are of the weights as stored."""
    dtype = torch.float16 if config.weights_dtype == "float16" else torch.float32
    ImageTokenizer(config.model, network).save(folder, dtype=dtype)
    tokenizer = load_image_tokenizer(folder)
    metrics = measure_image_tokenizer(tokenizer)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    (folder / "recipe.yaml").write_text(dump_config(config))
    _reconstruction_picture(tokenizer).save(folder / "reconstructions.png")
    (folder / "README.md").write_text(_card(tokenizer, config, metrics))
    return folder


def measure_image_tokenizer(tokenizer: ImageTokenizer) -> dict[str, dict[str, float]]:
    """PSNR (mean over pictures, dB), SSIM, usage and perplexity of codes, by set of drawings.

    `codes_kept` is the share of the codes of a picture's left half that stay the same when its
    right half becomes another picture's: how far codes say what is at their place alone.
    Of scenes also `icons_read`: the percentage whose icons and relation the scene reader still
    finds after reconstruction, the most that a generator can reach.
    """
    training, held_out = ([c.index for c in split_concepts(s)] for s in (False, True))
    noto, twemoji, fluent = (load_drawings(v) for v in (*TRAINING_VENDORS, UNSEEN_VENDOR))
    sets = {
        "training families, both vendors": np.concatenate([noto[training], twemoji[training]]),
        "noto, training families": noto[training],
        "twemoji, training families": twemoji[training],
        "noto, held-out families": noto[held_out],
        "twemoji, held-out families": twemoji[held_out],
        "fluent (unseen vendor), all": fluent[training + held_out],
    }
    metrics = {name: _measure(tokenizer, drawings)[0] for name, drawings in sets.items()}
    scenes = list(sample_scenes(_NUM_SCENES, 5, held_out=True))
    pictures = np.stack([render_scene(scene, "noto") for scene in scenes])
    metrics[_SCENES], decoded = _measure(tokenizer, pictures)
    if decoded.shape == pictures.shape:  # the reader knows 64x64 scenes alone
        shares = reading_shares(judge_scenes(list(decoded), scenes, ("noto",)))
        metrics[_SCENES]["icons_read"] = shares.relation
    return metrics


def _measure(
    tokenizer: ImageTokenizer, drawings: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Metrics of a set of pictures, and the pictures after the tokenizer."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    drawings = np.stack([tokenizer.fit(drawing) for drawing in drawings])
    codes = tokenizer.encode(list(drawings))
    decoded = tokenizer.decode(codes)
    errors = ((drawings.astype(np.float64) - decoded) ** 2).mean((1, 2, 3))
    counts = np.bincount(codes.reshape(-1), minlength=tokenizer.config.codebook_size)
    shares = counts[counts > 0] / counts.sum()
    half = drawings.shape[2] // 2
    spliced = np.concatenate([drawings[:, :, :half], np.roll(drawings, 1, 0)[:, :, half:]], 2)
    left = np.s_[:, :, : codes.shape[2] // 2]
    similarity = ssim(to_pixels(decoded), to_pixels(drawings), data_range=2.0)
    metrics = {
        "pictures": len(drawings),
        "psnr_db": float((10 * np.log10(255**2 / np.maximum(errors, 1e-9))).mean()),
        "ssim": float(similarity),
        "codes_used": float((counts > 0).mean()),
        "perplexity_share": float(np.exp(-(shares * np.log(shares)).sum()) / len(counts)),
        "codes_kept": float((tokenizer.encode(list(spliced))[left] == codes[left]).mean()),
    }
    return metrics, decoded


def _reconstruction_picture(tokenizer: ImageTokenizer) -> Image.Image:
    """Originals over reconstructions, one vendor a pair of rows, held-out families, at 2x."""
    rows = []
    for vendor in (*TRAINING_VENDORS, UNSEEN_VENDOR):
        picks = [c.index for c in split_concepts(held_out=True)][::11][:14]
        drawings = [tokenizer.fit(drawing) for drawing in load_drawings(vendor)[picks]]
        decoded = tokenizer.decode(tokenizer.encode(drawings))
        rows += [np.concatenate(drawings, 1), np.concatenate(list(decoded), 1)]
    sheet = Image.fromarray(np.concatenate(rows, 0))
    return sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST)


def _card(
    tokenizer: ImageTokenizer, config: VQGANTrainConfig, metrics: dict[str, dict[str, float]]
) -> str:
    side = config.model.grid_size
    parameters = sum(p.numel() for p in tokenizer.network.parameters())
    rows = "\n".join(
        f"| {name} | {m['pictures']} | {m['psnr_db']:.2f} | {m['ssim']:.3f} "
        f"| {100 * m['codes_used']:.1f} | {m['perplexity_share']:.2f} "
        f"| {100 * m['codes_kept']:.1f} |"
        for name, m in metrics.items()
    )
    adversarial = "No" if config.adversarial.start_step < 0 else "An"
    margin = config.model.encoder_margin
    encoder = (
        "taming-transformers' Encoder and Decoder"
        if margin is None
        else f"an encoder that sees {margin} pixels around a code's cell, taming's Decoder"
    )
    licences = "\n".join(f"- {licence}" for licence in LICENCES.values())
    sphere = " on the unit sphere" if config.model.l2_normalized else ""
    seen = " and ".join(v.capitalize() for v in config.vendors)
    unseen = ""
    if UNSEEN_VENDOR not in config.vendors:
        name = UNSEEN_VENDOR.capitalize()
        unseen = f"{name} was seen neither in training nor in choosing the recipe."
    reading = ""
    if (read := metrics[_SCENES].get("icons_read")) is not None:
        reading = f"After the tokenizer the scene reader reads {read:.2f} % of the scenes right.\n"
    size = f"{config.model.resolution}x{config.model.resolution}"
    return f"""# Image tokenizer: {size} emoji and scenes

VQ-GAN ({encoder}, our quantizer): {side}x{side} codes,
{config.model.codebook_size:,} entries of dimension {config.model.codebook_dim}{sphere},
{parameters / 1e6:.2f} M parameters, stored as {config.weights_dtype}, computed in float32.
No perceptual loss: no pretrained VGG can be had offline, and none was used.
{adversarial} adversarial term was used.

    genvlm train configs/train/image-emoji-64.yaml --out runs/image-emoji-64

| drawings | pictures | PSNR dB | SSIM | codes used % | perplexity / codebook | codes kept % |
|---|---|---|---|---|---|---|
{rows}

PSNR: mean over pictures. Codes kept: of a picture's left half, when its right half becomes another
picture's.
{reading}
Trained on {seen} drawings of the training families and on composed scenes of
them. {unseen}
The shipped recipe (optimizer, margin, shares of augmentation, steps) was chosen on the held-out
families of Noto: their row is not blind. `reconstructions.png` shows held-out families, originals
over reconstructions: Noto, Twemoji, Fluent.

Drawings:
{licences}
"""

"""A folder of captioned pictures with one planted fault for each rule of a curation."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genvlm.data.emoji import find_concept, load_drawings
from genvlm.data.images import RGBImage
from genvlm.testing.files import picture_bytes, write_files, write_json_lines

GOOD = ("dog face", "cow", "red heart", "green heart", "umbrella", "rocket", "house")


def all_rules(folder: Path) -> tuple[dict[str, Any], ...]:
    """All rules but scores and balancing, in an order, for the folder that is written below."""
    return (
        {"kind": "size", "min_side": 16},
        {"kind": "aspect"},
        {"kind": "blank"},
        {"kind": "exact_duplicates"},
        {"kind": "near_duplicates"},
        {"kind": "evaluation_pictures", "folders": [str(folder / "evaluation")]},
        {"kind": "caption_length", "min_chars": 2},
        {"kind": "boilerplate", "own": ["^property of"]},
        {"kind": "repeated_text"},
        {"kind": "script"},
        {"kind": "shared_caption", "max_pictures": 2},
    )


def write_noisy_captions(folder: Path) -> dict[str, str | None]:
    """Write pictures and `captions.jsonl`; gives the rule that drops each id, or None."""
    found: list[tuple[str, bytes, str, str | None]] = []
    for label in GOOD:
        found.append((label, _png(_drawing(label)), f"a {label}", None))
    rng = np.random.default_rng(0)
    dog, noise = _drawing("dog face"), rng.integers(0, 256, (64, 64, 3), np.uint8)
    found += [
        ("broken", _png(dog)[:200], "a dog", "unreadable"),
        ("text", b"no picture at all", "a dog", "unreadable"),
        ("tiny", _png(noise[:9]), "noise", "size"),
        ("long", _png(noise[:16, :64].repeat(2, axis=1)), "noise", "aspect"),
        ("blank", picture_bytes(200, size=(64, 64)), "grey fog", "blank"),
        ("equal", _png(dog, level=1), "the same dog", "exact_duplicates"),
        ("rescaled", _png(_resized(dog, 90)), "a larger dog", "near_duplicates"),
        ("leaked", _png(_resized(_drawing("pear"), 80)), "x", "evaluation_pictures"),
        ("short", _png(_drawing("cat face")), "c", "caption_length"),
        ("url", _png(_drawing("lemon")), "IMG_0042.JPG", "boilerplate"),
        ("own", _png(_drawing("crab")), "Property of the museum", "boilerplate"),
        ("spam", _png(_drawing("ship")), "buy now buy now buy now buy now", "repeated_text"),
        ("foreign", _png(_drawing("bicycle")), "велосипед", "script"),
        ("first", _png(_drawing("hammer")), "clip art gallery", "shared_caption"),
        ("second", _png(_drawing("guitar")), "Clip-art gallery!", "shared_caption"),
        ("third", _png(_drawing("tractor")), "clip art gallery", "shared_caption"),
    ]
    write_files(folder, {f"{name}.png": content for name, content, _, _ in found})
    write_files(folder, {"evaluation/pear.png": _png(_drawing("pear"))})
    rows = [{"id": n, "image": f"{n}.png", "text": text} for n, _, text, _ in found]
    write_json_lines(folder / "captions.jsonl", rows)
    return {name: rule for name, _, _, rule in found}


def _drawing(label: str) -> RGBImage:
    return load_drawings("noto")[find_concept(label).index]


def _resized(image: RGBImage, side: int) -> RGBImage:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def _png(image: RGBImage, level: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()

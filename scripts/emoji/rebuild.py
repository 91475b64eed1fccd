"""Rebuilds the emoji pack from its npm packages and compares it with the shipped files.

Started by scripts/rebuild_emoji_pack, which installs the packages and the pinned renderer. A
concept is an emoji that emojibase names and that all three icon sets draw. With the pinned versions
every file comes out byte for byte as shipped; where a sheet does not, the pixels are compared.
"""

import argparse
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

TILE, COLUMNS, ROWS = 64, 40, 40
RENDER = 128  # drawn at twice the size, then reduced
SHEETS = {
    "noto_64_native_pal.png": "noto",
    "twemoji_64_native_pal.png": "twemoji",
    "fluent_flat_64_native_pal.png": "fluent-emoji-flat",
}
TEXT = "emoji.json.gz"
PACK = Path(__file__).resolve().parents[2] / "genvlm" / "data" / "emoji_pack"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="a node_modules folder")
    parser.add_argument("--write", action="store_true", help="replace the shipped files")
    arguments = parser.parse_args()

    icon_sets = {name: IconSet(arguments.packages, name) for name in SHEETS.values()}
    concepts = build_concepts(arguments.packages, icon_sets)
    rebuilt = {TEXT: encode_text(concepts)}
    for file_name, set_name in SHEETS.items():
        print(f"rendering {len(concepts)} drawings of {set_name}", file=sys.stderr)
        rebuilt[file_name] = encode_sheet(concepts, icon_sets[set_name])

    all_equal = True
    for file_name, content in rebuilt.items():
        equal, verdict = compare(file_name, content, (PACK / file_name).read_bytes())
        all_equal &= equal
        print(f"{file_name}: {verdict}")
        if arguments.write:
            (PACK / file_name).write_bytes(content)
    return 0 if all_equal else 1


class IconSet:
    """One vendor's SVG drawings, found by the id of a concept."""

    def __init__(self, packages: Path, name: str) -> None:
        folder = packages / "@iconify-json" / name
        self._icons = json.loads((folder / "icons.json").read_text("utf-8"))
        names = json.loads((folder / "chars.json").read_text("utf-8"))
        self._names = {concept_id(code_points): icon for code_points, icon in names.items()}

    def __contains__(self, concept: str) -> bool:
        return self._names.get(concept) in self._icons["icons"]

    def render(self, concept: str) -> Image.Image:
        """The drawing in its own frame (never cropped: sizes carry meaning), RGBA."""
        icon = self._icons["icons"][self._names[concept]]
        width = icon.get("width", self._icons.get("width", 16))
        height = icon.get("height", self._icons.get("height", 16))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
            f' width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
            f"{icon['body']}</svg>"
        )
        longer_side = {"width": RENDER} if width >= height else {"height": RENDER}
        png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True, **longer_side)
        return Image.open(io.BytesIO(png)).convert("RGBA")


def concept_id(code_points: str) -> str:
    """Code points in upper case without FE0F (the variation selector)."""
    return "-".join(p for p in code_points.upper().split("-") if p != "FE0F")


def build_concepts(packages: Path, icon_sets: dict[str, IconSet]) -> list[dict[str, Any]]:
    """The entries of emoji.json, sorted by id."""
    english = packages / "emojibase-data" / "en"
    messages = json.loads((english / "messages.json").read_text("utf-8"))
    groups = {g["order"]: g["key"] for g in messages["groups"]}
    subgroups = {g["order"]: g["key"] for g in messages["subgroups"]}
    shortcodes = {
        concept_id(code_points): [names] if isinstance(names, str) else names
        for code_points, names in json.loads(
            (english / "shortcodes" / "emojibase.json").read_text("utf-8")
        ).items()
    }
    keywords = json.loads((packages / "emojilib" / "dist" / "emoji-en-US.json").read_text("utf-8"))

    concepts = []
    for entry in json.loads((english / "data.json").read_text("utf-8")):
        key = concept_id(entry["hexcode"])
        if not all(key in icons for icons in icon_sets.values()):
            continue
        label = entry["label"]
        plain_keywords = [
            spaced(word)
            for word in keywords.get(entry["emoji"], [])
            if word.replace("_", "").isalpha()
        ]
        names = [spaced(name) for name in shortcodes.get(key, [])]
        concepts.append(
            {
                "id": key,
                "emoji": entry["emoji"],
                "label": label,
                "tags": list(dict.fromkeys([*entry.get("tags", []), *plain_keywords])),
                "group": groups[entry["group"]],
                "subgroup": subgroups[entry["subgroup"]],
                "captions": [
                    label,
                    *(n for n in dict.fromkeys(names) if n not in (label, label.lower())),
                ],
            }
        )
    return sorted(concepts, key=lambda concept: concept["id"])


def spaced(name: str) -> str:
    return name.replace("_", " ")


def encode_text(concepts: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile("emoji.json", "wb", 9, buffer, mtime=0) as file:
        file.write(json.dumps(concepts, ensure_ascii=False).encode())
    return buffer.getvalue()


def encode_sheet(concepts: list[dict[str, Any]], icons: IconSet) -> bytes:
    """All drawings on one white sheet, 40 a row, as a PNG of 256 colours."""
    sheet = Image.new("RGB", (COLUMNS * TILE, ROWS * TILE), "white")
    for index, concept in enumerate(concepts):
        drawing = icons.render(concept["id"])
        canvas = Image.new("RGBA", (RENDER, RENDER), "white")
        corner = ((RENDER - drawing.width) // 2, (RENDER - drawing.height) // 2)
        canvas.alpha_composite(drawing, corner)
        tile = canvas.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (index % COLUMNS * TILE, index // COLUMNS * TILE))
    buffer = io.BytesIO()
    sheet.quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def compare(file_name: str, rebuilt: bytes, shipped: bytes) -> tuple[bool, str]:
    """Whether the content is the same, and a sentence on how far it differs."""
    if rebuilt == shipped:
        return True, "equal, byte for byte"
    if file_name == TEXT:
        new, old = (json.loads(gzip.decompress(content)) for content in (rebuilt, shipped))
        if new == old:
            return True, "text equal, compressed otherwise"
        changed = sum(a != b for a, b in zip(new, old, strict=False))
        return False, f"DIFFERS: {len(new)} concepts for {len(old)}, {changed} rows changed"
    new_pixels, old_pixels = (
        np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        for content in (rebuilt, shipped)
    )
    difference = np.abs(new_pixels - old_pixels)
    if not difference.any():
        return True, "pixels equal, compressed otherwise"
    share = (difference.max(-1) > 0).mean()
    return False, (
        f"DIFFERS: pixel difference max {difference.max()}, mean {difference.mean():.4f} of 255, "
        f"{share:.2%} of the pixels"
    )


if __name__ == "__main__":
    sys.exit(main())

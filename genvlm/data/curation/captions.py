"""What can be told of a caption without its picture: words, repetition, patterns, scripts."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from genvlm.config.curation import PatternName, Script


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


PATTERNS: Mapping[PatternName, re.Pattern[str]] = {
    "url": _pattern(r"https?:|\bwww\.\w|\b[\w-]+\.(?:com|org|net|info|edu|gov|co\.[a-z]{2})\b"),
    "email": _pattern(r"\S@\w[\w.-]*\.\w"),
    "file_name": _pattern(r"\w\.(?:jpe?g|png|gif|bmp|tiff?|svgz?|webp|psd|pdf|eps|ai|xcf)\b"),
    # Two or more digits: "photo 1" may be of a series, "photo 0034" is of a card.
    "camera_name": _pattern(
        r"^\W*(?:img|dsc[nf]?|dcim|imag|cimg|pict?|mvc|gopr|pxl|sam|scan|image|photo|picture"
        r"|screenshot|untitled)[\W_]*\d{2,}[\W_\d]*$"
    ),
    "hexadecimal": _pattern(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b"),
    "no_letters": _pattern(r"^[\W\d_]*$"),
    "placeholder": _pattern(
        r"^\W*(?:(?:un|no )titled?|(?:no )?(?:title|name|caption|description|alt text)|image"
        r"|picture|photo|thumbnail|drawing|clip ?art|graphic|icon|logo|banner|default|null|none"
        r"|n/?a|tbd|todo|test|new document \d*|click (?:here|to enlarge).*)\W*$"
    ),
    "opening": _pattern(
        r"^\W*(?:an? |the )?(?:image|picture|photo(?:graph)?|drawing|illustration) of\b"
    ),
}

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SCRIPTS: Mapping[str, Script] = {
    "LATIN": "latin", "CYRILLIC": "cyrillic", "GREEK": "greek", "CJK": "han", "HIRAGANA": "kana",
    "KATAKANA": "kana", "HANGUL": "hangul", "ARABIC": "arabic", "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari", "THAI": "thai",
}  # fmt: skip


def words_of(caption: str) -> list[str]:
    """Runs of letters and digits, in lower case; an apostrophe inside a word stays."""
    return [word.lower() for word in _WORD.findall(caption)]


def plain(caption: str) -> str:
    """Equal for captions that differ in case, blanks and punctuation alone."""
    return " ".join(words_of(caption)) or " ".join(caption.split())


def repeated_share(words: Sequence[str], ngram: int) -> float:
    """Share of the phrases of `ngram` words that stood in the caption before."""
    phrases = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    return 1 - len(set(phrases)) / len(phrases) if phrases else 0.0


def scripts_of(caption: str) -> dict[Script, int]:
    """Number of letters of each script."""
    return dict(Counter(_script(char) for char in caption if char.isalpha()))


@cache
def _script(letter: str) -> Script:
    name = unicodedata.name(letter, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    return _SCRIPTS.get(name.split(" ")[0].split("-")[0], "other")

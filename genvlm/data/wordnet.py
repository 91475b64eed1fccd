"""WordNet's nouns (Miller 1995, as of version 3.0) as documents of text alone: word, definition.

The format of `data.noun` is that of the manual page wndb(5WN).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from genvlm.data.emoji import Concept
from genvlm.errors import DataError

HELD_OUT_PERCENT = 5
_MOST_WORDS = 3
"""Of a name that is looked for in captions."""


@dataclass(frozen=True)
class Synset:
    """Words of one meaning."""

    id: str
    """Its byte in `data.noun`, which all that points to it uses."""
    words: tuple[str, ...]
    """The usual one first."""
    hypernyms: tuple[str, ...]
    """Ids of what it is a kind, or an instance, of."""
    definition: str
    """Without the examples and remarks behind its first semicolon."""

    @property
    def text(self) -> str:
        """Such as "owlet: young owl"."""
        return f"{self.words[0]}: {self.definition}"

    @property
    def held_out(self) -> bool:
        """Whether it is kept for testing (sha256 of the id, modulo 100)."""
        digest = hashlib.sha256(self.id.encode()).digest()
        return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


def parse_nouns(content: bytes, name: str) -> tuple[dict[str, Synset], str]:
    """Synsets by id in the order of a file `data.noun`, and the licence in front of them.

    Raises:
        DataError: a line is not of the format; it is named.
    """
    licence: list[str] = []
    synsets: dict[str, Synset] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if line.startswith("  "):  # the licence, its lines numbered
            licence.append(line.strip().partition(" ")[2].strip())
            continue
        try:
            synset = _parse_line(line)
        except (ValueError, IndexError):
            raise DataError(
                f"{name} line {number} is not of WordNet's data.noun: fetch it again"
            ) from None
        synsets[synset.id] = synset
    if not synsets or not licence:
        raise DataError(f"{name} holds no nouns or no licence: is it WordNet's data.noun?")
    for synset in synsets.values():
        for above in synset.hypernyms:
            if above not in synsets:
                raise DataError(
                    f"{name}: {synset.words[0]!r} is said to be a kind of {above}, which is not "
                    "there: the file is cut short, fetch it again"
                )
    return synsets, "\n".join(licence) + "\n"


@dataclass
class Chosen:
    """Synsets in the order of the file, and how many were left out, by reason."""

    synsets: list[Synset] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str) -> None:
        """Count one."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def choose_glosses(
    synsets: Mapping[str, Synset], concepts: Iterable[Concept], *, max_letters: int, related: bool
) -> Chosen:
    """Which synsets become documents.

    Left out are those with a word that names an emoji of a held-out family and none of a training
    family: a model would have read of what it is then tested on.

    Args:
        concepts: all of them.
        max_letters: of the longest document.
        related: only those with a word in a caption of a training family, and all above them.
    """
    concepts = list(concepts)
    training = {name for c in concepts if not c.held_out for name in _names(c)}
    tested = {name for c in concepts if c.held_out for name in _names(c)} - training
    wanted = _related(synsets, training) if related else set(synsets)
    chosen = Chosen()
    for synset in synsets.values():
        if synset.id not in wanted:
            chosen.leave_out("not related to a caption of the emoji")
        elif any(word.lower() in tested for word in synset.words):
            chosen.leave_out("names an emoji of a held-out family")
        elif not synset.definition:
            chosen.leave_out("no definition")
        elif not synset.text.isascii():
            chosen.leave_out("not ASCII")
        elif len(synset.text) > max_letters:
            chosen.leave_out(f"longer than {max_letters} letters")
        else:
            chosen.synsets.append(synset)
    return chosen


def _parse_line(line: str) -> Synset:
    """`offset file n num (word id)* num (pointer offset n source)* | gloss`; first num is hex."""
    fields, bar, gloss = line.partition("|")
    head = fields.split()
    if not bar or head[2] != "n" or not re.fullmatch(r"\d{8}", head[0]):
        raise ValueError(line)
    end = 4 + 2 * int(head[3], 16)
    words = tuple(word.replace("_", " ") for word in head[4:end:2])
    pointers = head[end + 1 :]
    if not words or len(pointers) != 4 * int(head[end]):
        raise ValueError(line)
    pairs = zip(pointers[::4], pointers[1::4], strict=True)
    above = tuple(target for kind, target in pairs if kind in ("@", "@i"))
    return Synset(head[0], words, above, _definition(gloss))


def _definition(gloss: str) -> str:
    """What stands in front of the first semicolon outside of parentheses."""
    depth = 0
    for place, letter in enumerate(gloss):
        depth += (letter == "(") - (letter == ")")
        if letter == ";" and depth <= 0:
            return gloss[:place].strip()
    return gloss.strip()


def _names(concept: Concept) -> set[str]:
    return {name.lower() for name in (concept.label, *concept.captions)}


def _related(synsets: Mapping[str, Synset], captions: Iterable[str]) -> set[str]:
    """Ids of synsets with a word that is a run of words of a caption, and of all above them."""
    runs = set()
    for caption in captions:
        words = re.findall(r"[\w'-]+", caption)
        for size in range(1, _MOST_WORDS + 1):
            runs |= {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
    found = {s.id for s in synsets.values() if any(word.lower() in runs for word in s.words)}
    above = list(found)
    while above:
        new = set(synsets[above.pop()].hypernyms) - found
        found |= new
        above += new
    return found

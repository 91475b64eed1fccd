"""Definitions of WordNet's nouns that ship with genvlm, as documents of text alone."""

import gzip
import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

LICENCE = "WordNet 3.0 Copyright 2006 by Princeton University (free with its notice, which is in "
LICENCE += "genvlm/data/gloss_pack/LICENSE.txt)"


class Gloss(NamedTuple):
    """A word and what it means."""

    id: str
    """Of its synset in WordNet."""
    text: str
    """Such as "owlet: young owl"."""


@cache
def load_glosses(*, held_out: bool) -> tuple[Gloss, ...]:
    """Those kept for testing, or those to train on; none is about an emoji of a held-out family."""
    name = "held_out.jsonl.gz" if held_out else "glosses.jsonl.gz"
    content = files("genvlm.data").joinpath("gloss_pack", name).read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    return tuple(Gloss(row["id"], row["segments"][0]["text"]) for row in rows)

"""What the card of every trained model says of its data."""

from collections.abc import Mapping, Sequence
from typing import Any

from genvlm.config.data import Source
from genvlm.config.schema import to_plain
from genvlm.data.emoji import LICENCES
from genvlm.data.glosses import LICENCE as GLOSSES_LICENCE


def list_sources(sources: Sequence[Source]) -> str:
    """One line a source."""
    return "\n".join(f"- {to_plain(s)}" for s in sources)


def licences(sources: Sequence[Mapping[str, Any]]) -> str:
    """Of what ships with genvlm and plain sources name; a user's own data have the user's terms."""
    vendors = {v for s in sources for v in s.get("vendors", ())}
    drawings = [f"Drawings: {LICENCES[v]}.\n" for v in sorted(vendors)]
    has_glosses = any(s.get("kind") == "glosses" for s in sources)
    return "".join([*drawings, *[f"Definitions: {GLOSSES_LICENCE}.\n"] * has_glosses])


def describe_weights(decay: float | None) -> str:
    """Which weights of a run are in its model folder, by the decay of their average."""
    return "last weights" if decay is None else f"average of the weights, decay {decay}"

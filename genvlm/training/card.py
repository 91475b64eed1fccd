"""What the card of every trained model says of its data."""

from collections.abc import Sequence

from genvlm.config.data import FileSource, Source
from genvlm.config.schema import to_plain
from genvlm.data.emoji import LICENCES


def list_sources(sources: Sequence[Source]) -> str:
    """One line a source."""
    return "\n".join(f"- {to_plain(s)}" for s in sources)


def licences(sources: Sequence[Source]) -> str:
    """Of the shipped drawings; a user's own data have the user's terms."""
    vendors = {v for s in sources if not isinstance(s, FileSource) for v in s.vendors}
    return "".join(f"Drawings: {LICENCES[v]}.\n" for v in sorted(vendors))

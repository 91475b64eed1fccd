"""Title, description and keywords that a drawing's file says of itself: RDF in an SVG.

The file is a stranger's: a file that declares entities is refused, and nothing is fetched.
"""

from dataclasses import dataclass
from xml.parsers import expat

from genvlm.errors import DataError

_DC = "http://purl.org/dc/elements/1.1/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_RDF_ROOT = f"{_RDF} RDF"
_MAX_DEPTH = 500


@dataclass(frozen=True, kw_only=True)
class DrawingMetadata:
    """What an SVG says of itself; "" and () where it says nothing."""

    title: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()
    language: str = ""


def read_svg_metadata(content: bytes, name: str) -> DrawingMetadata:
    """Dublin Core of the drawing itself: that of its creator or licence is passed over.

    Raises:
        DataError: not well-formed XML, or with entities of its own.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    # An entity may be a bomb (one that names another ten times) or a file of this machine.
    parser.EntityDeclHandler = _refuse_entity
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, UnicodeError, ValueError, LookupError) as error:
        raise DataError(f"{name} is not well-formed XML ({error})") from None
    except _EntityError as error:
        raise DataError(f"{name} declares the entity {error}, which is not expanded") from None
    keywords = tuple(dict.fromkeys(_clean(word) for word in reader.keywords if _clean(word)))
    return DrawingMetadata(
        title=_clean(reader.fields["title"]),
        description=_clean(reader.fields["description"]),
        keywords=keywords,
        language=_clean(reader.fields["language"]),
    )


class _EntityError(Exception):
    """An entity is declared."""


def _refuse_entity(name: str, *_: object) -> None:
    raise _EntityError(repr(name))


class _Reader:
    """Collects the texts of a Work's own fields."""

    def __init__(self) -> None:
        self.fields = {"title": "", "description": "", "language": ""}
        self.keywords: list[str] = []
        self._open: list[str] = []
        self._read: set[str] = set()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        if len(self._open) > _MAX_DEPTH:
            raise ValueError(f"elements are nested more than {_MAX_DEPTH} deep")
        if self._field == "keyword":
            self.keywords.append("")

    def end(self, name: str) -> None:
        field = self._field
        if self.fields.get(field, "").strip():
            self._read.add(field)  # some files say it twice
        self._open.pop()

    def text(self, text: str) -> None:
        field = self._field
        if field == "keyword":
            self.keywords[-1] += text
        elif field and field not in self._read:
            self.fields[field] += text

    @property
    def _field(self) -> str:
        """The field that is being read, or ""."""
        if len(self._open) < 2 or _RDF_ROOT not in self._open:
            return ""
        below = self._open[self._open.index(_RDF_ROOT) + 1 :]
        if len(below) == 2 and below[1].startswith(_DC + " "):
            name = below[1].removeprefix(_DC + " ")
            return name if name in self.fields else ""
        is_keyword = len(below) == 4 and below[1] == f"{_DC} subject" and below[3] == f"{_RDF} li"
        return "keyword" if is_keyword else ""


def _clean(text: str) -> str:
    return " ".join(text.split())

"""What a drawing says of itself, read without expanding anything."""

import pytest

from genvlm.data.svg_metadata import DrawingMetadata, read_svg_metadata
from genvlm.errors import DataError

SPACES = (
    'xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
)


def svg(work: str, before: str = "") -> bytes:
    metadata = f"<metadata><rdf:RDF><cc:Work>{work}</cc:Work></rdf:RDF></metadata>"
    return f"{before}<svg {SPACES}><title>not this</title>{metadata}</svg>".encode()


def test_the_work_s_own_fields_are_read() -> None:
    work = """<dc:title> A  <![CDATA[cow]]> </dc:title><dc:title>again</dc:title>
        <dc:description>on a &lt;meadow&gt;</dc:description><dc:language>en</dc:language>
        <dc:subject><rdf:Bag><rdf:li>cow</rdf:li><rdf:li/><rdf:li>cow</rdf:li>
        <rdf:li>animal</rdf:li></rdf:Bag></dc:subject>
        <dc:creator><cc:Agent><dc:title>somebody</dc:title></cc:Agent></dc:creator>"""
    assert read_svg_metadata(svg(work), "cow.svg") == DrawingMetadata(
        title="A cow", description="on a <meadow>", keywords=("cow", "animal"), language="en"
    )


def test_a_drawing_may_say_nothing() -> None:
    assert read_svg_metadata(b"<svg/>", "x.svg") == DrawingMetadata()


@pytest.mark.parametrize(
    "entity",
    ['<!ENTITY a "aaaa">', '<!ENTITY a SYSTEM "file:///etc/hostname">', '<!ENTITY % a "b">'],
)
def test_entities_are_refused(entity: str) -> None:
    content = svg("<dc:title>&a;</dc:title>", f"<!DOCTYPE svg [{entity}]>")
    with pytest.raises(DataError, match=r"x\.svg declares the entity 'a', which is not expanded"):
        read_svg_metadata(content, "x.svg")


@pytest.mark.parametrize("content", [b"", b"<svg>", b"\x00\xff", b"<svg>&a;</svg>", b"<a>" * 600])
def test_what_is_no_xml_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.svg is not well-formed XML"):
        read_svg_metadata(content, "x.svg")

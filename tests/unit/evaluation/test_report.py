"""The report page: escaped, self-contained, well-formed, exact in its pixels, deterministic."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from genvlm.errors import EvaluationError
from genvlm.evaluation.blocks import (
    Browser,
    BrowserItem,
    Callout,
    Code,
    Figure,
    Gallery,
    Headline,
    Interval,
    Prose,
    Section,
    Story,
    Table,
    Tile,
)
from genvlm.evaluation.report import render_report, save_report

HOSTILE = "<script>alert(1)</script>\" onload='x' {{ 7*7 }}"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'
VOID = {"meta", "link", "img", "br", "hr", "input"}


def picture(seed: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def item(**changes: object) -> BrowserItem:
    fields: dict = {
        "images": [picture(7), picture(8)],
        "texts": ["a", "b"],
        "scores": [[-1.0, -2.0], [-3.0, -2.5]],
        "good": True,
        "tags": ["relation"],
        "name": "item-1",
        "correct": (0, 1),
    }
    return BrowserItem(**(fields | changes))


def full_report(text: str = "plain") -> str:
    blocks = [
        Prose(f"{text}\n\nSecond `code` and **bold**."),
        Figure(SVG, text, text),
        Gallery([Tile([picture(1), picture(2)], [text, text], text, False)], text),
        Table(
            [text, "score"],
            [[text, Interval(50.0, 40.0, 60.0)], ["chance", None]],
            text,
            highlight_rows=[0],
            bars=["score"],
        ),
        Code(text, text, text),
        Code(text, collapsed=True),
        Story([text, picture(3), text, picture(4)], text),
        Callout(text, "warning"),
        Browser([item(texts=[text, "b"], tags=[text], name=text), item(good=False)], text),
    ]
    sections = [Section(text, blocks, text), Section("Nothing yet")]
    return render_report(text, text, [Headline(text, text, text)], sections, text)


class Page(HTMLParser):
    """Checks that elements are balanced, and collects what the tests ask about."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_hostile_text_is_shown_and_never_run() -> None:
    html = full_report(HOSTILE)
    page = Page(html)
    assert html.count("<script>") == len(page.all("script")) == 1
    assert "alert(1)" not in html[html.rindex("<script>") :]
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    assert page.text.count(HOSTILE) >= 15
    assert json.loads(page.all("li")[-2]["data-tags"] or "") == [HOSTILE]


def test_page_is_balanced_and_loads_nothing() -> None:
    html = full_report()
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
    assert not re.search(r"url\(|@import|https?:", html)


def test_policy_admits_only_the_script_of_the_page() -> None:
    html = full_report()
    script = html[html.rindex("<script>") + len("<script>") : html.rindex("</script>")]
    digest = hashlib.sha256(script.encode()).digest()
    policy = next(m["content"] or "" for m in Page(html).all("meta") if "http-equiv" in m)
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy


def test_every_picture_decodes_to_the_same_pixels() -> None:
    shown = [i for i in Page(full_report()).all("img") if i.get("class") == "pixels"]
    decoded = []
    for image in shown:
        head, _, data = (image["src"] or "").partition(",")
        assert head == "data:image/png;base64"
        decoded.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
    expected = [picture(n) for n in (1, 2, 3, 4, 7, 8, 7, 8)]
    assert len(decoded) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, expected, strict=True))


def test_a_clip_is_a_playing_gif_of_the_same_pixels() -> None:
    clip = np.stack([picture(seed) for seed in range(3)])
    page = render_report(
        "t", sections=[Section("s", [Gallery([Tile([clip], ["a clip"])], scale=3)])]
    )
    shown = re.search(r'<img [^>]*src="data:image/gif;base64,([^"]*)" width="18" height="12"', page)
    assert shown is not None
    with Image.open(io.BytesIO(base64.b64decode(shown[1]))) as gif:
        frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(gif)]
    assert np.array_equal(np.stack(frames), clip)


def test_pictures_are_enlarged_by_whole_numbers() -> None:
    tile = Tile([picture(1, 64, 64)], [""])
    for scale, width in ((None, "128"), (1, "64"), (3, "192")):
        html = render_report("r", sections=[Section("s", [Gallery([tile], scale=scale)])])
        assert Page(html).all("img")[0]["width"] == width


def test_every_picture_has_alternative_text_and_every_header_a_scope() -> None:
    page = Page(full_report())
    assert all(image["alt"] for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))


def test_contents_link_to_every_section() -> None:
    page = Page(full_report())
    links = {a["href"] for a in page.all("a")} - {"#main"}
    assert links == {f"#{s['id']}" for s in page.all("section")}
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_same_input_gives_same_bytes() -> None:
    assert full_report() == full_report()


def test_empty_parts_say_so() -> None:
    blocks = [Gallery([]), Story([]), Browser([]), Table(["a"], []), Prose("")]
    page = Page(render_report("r", sections=[Section("one", blocks), Section("two")]))
    for sentence in (
        "No pictures.", "An empty document.", "No items.", "No rows.", "Nothing to show here.",
    ):  # fmt: skip
        assert sentence in page.text
    Page(render_report("only a title"))


def test_characters_that_cannot_be_shown_are_replaced(tmp_path: Path) -> None:
    html = render_report("a\x00b\ud800c\u202ed", sections=[Section("s", [Prose("x\x1by")])])
    save_report(html, tmp_path / "r.html")
    assert "a\ufffdb\ufffdc\ufffdd" in html
    assert "x\ufffdy" in html


def test_prose_knows_code_and_bold_only() -> None:
    prose = Prose("`a<b` and **x** but 2 ** 3 ** 4 and *y*")
    html = render_report("r", sections=[Section("s", [prose])])
    expected = "<code>a&lt;b</code> and <strong>x</strong> but 2 ** 3 ** 4 and *y*"
    assert f"<p>{expected}</p>" in html


def test_cells_are_written_for_people() -> None:
    row = ["r", 2123456, 0.25, None, -3.0, True]
    page = Page(render_report("r", sections=[Section("s", [Table(list("abcdef"), [row])])]))
    for shown in ("2\u202f123\u202f456", "0.2", "\u2013", "\u22123.0", "yes"):
        assert shown in page.text


@pytest.mark.parametrize(
    ("parts", "pages"),
    [
        ("tiTI", ["ti", "TI"]),
        ("itIT", ["it", "IT"]),
        ("tit", ["ti", "t"]),
        ("iI", ["i", "I"]),
        ("tTi", ["tTi"]),
        ("", []),
    ],
)
def test_story_pages_keep_the_order_of_the_document(parts: str, pages: list[str]) -> None:
    pictures = {"i": picture(1), "I": picture(2)}
    story = Story([pictures.get(part, part) for part in parts])
    shown = [
        "".join(p if isinstance(p, str) else "iI"[p is pictures["I"]] for p in page)
        for page in story.pages
    ]
    assert shown == pages


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ([[-310.0, -312.5]], ["\u2212310.0", "\u2212312.5"]),
        ([[-310.0001, -310.0]], ["\u2212310.00010", "\u2212310.00000"]),
        ([[1.0, 1.0]], ["1.0", "1.0"]),
    ],
)
def test_scores_have_the_decimals_that_tell_them_apart(
    scores: list[list[float]], shown: list[str]
) -> None:
    assert item(images=[picture(1)], scores=scores, correct=()).shown_scores == [shown]


BAD: dict[str, Callable[[], object]] = {
    "tile 't', image 0: expected uint8 .* got float64 of shape": lambda: Tile(
        [picture(1) / 255], [""], "t"
    ),
    "tile 't', image 0: .* got uint8 of shape": lambda: Tile([picture(1)[..., 0]], [""], "t"),
    "tile 't': 1 images with 2 labels": lambda: Tile([picture(1)], ["", ""], "t"),
    "story 's', image 0: .* got int": lambda: Story(["a", 3], "s"),  # type: ignore[list-item]
    "neither PNG nor SVG": lambda: Figure(b"GIF89a", "c", "alt"),
    "alt is empty": lambda: Figure(SVG, "c", " "),
    "row 1: 1 cells for 2 columns": lambda: Table(["a", "b"], [["x", 1], ["y"]]),
    "no row 3 to highlight": lambda: Table(["a"], [["x"]], highlight_rows=[3]),
    "bars name a column 'z'": lambda: Table(["a"], [["x"]], bars=["z"]),
    "percent from 0 to 100, got 101": lambda: Table(["a", "b"], [["x", 101]], bars=["b"]),
    "percent from 0 to 100, got nan": lambda: Table(["a", "b"], [["x", np.nan]], bars=["b"]),
    "align must hold": lambda: Table(["a"], [["x"]], align=["middle"]),  # type: ignore[list-item]
    "does not hold its value": lambda: Interval(3.0, 4.0, 5.0),
    "no callout kind 'loud'": lambda: Callout("x", "loud"),  # type: ignore[arg-type]
    r"scores of shape \(1, 2\) for 2 images": lambda: item(scores=[[1.0, 2.0]]),
    "a score is not finite": lambda: item(scores=[[1.0, np.nan], [1.0, 2.0]]),
    "correct must hold": lambda: item(correct=(0, 2)),
    "scale must be": lambda: Gallery([], scale=0),
    "page_size must be": lambda: Browser([], page_size=0),
    "empty title": lambda: Section(" "),
    "section 's': str is no block": lambda: Section("s", ["text"]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        BAD[message]()


def test_saving_replaces_the_page_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "report.html"
    save_report("old", path)
    save_report("näw", path)
    assert path.read_text("utf-8") == "näw"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(EvaluationError, match="is a folder"):
        save_report("x", tmp_path)


def test_a_long_file_name_in_a_table_is_broken_and_hides_no_numbers() -> None:
    page = render_report(
        "t", "", sections=[Section("s", [Table(["video", "n"], [["a" * 200, 1]])])]
    )
    assert re.search(r"\.block\.scroll tbody th \{[^}]*overflow-wrap: anywhere", page)


def test_an_interval_below_zero_is_not_written_with_two_dashes() -> None:
    table = Table(["gain", "points"], [["blind", Interval(-7.0, -12.0, -1.5)]])
    page = Page(render_report("Gains", "", [], [Section("Gains", [table])], ""))
    assert "\N{MINUS SIGN}12.0 to \N{MINUS SIGN}1.5" in page.text
    assert "40.0–60.0" in Page(full_report()).text

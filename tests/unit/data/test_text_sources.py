"""Sources of text alone: definitions, and captions without their pictures."""

import re
from pathlib import Path

import pytest

from genvlm.config.data import (
    DataConfig,
    EmojiSource,
    GlossesSource,
    ScenesSource,
    StoriesSource,
    TextsSource,
)
from genvlm.config.schema import parse_config
from genvlm.data import sources
from genvlm.data.emoji import load_concepts
from genvlm.data.glosses import load_glosses
from genvlm.data.scenes import ICONS, is_held_out
from genvlm.data.sources import Sample, read_source
from genvlm.errors import ConfigError

SCENES = ScenesSource(num=300, three=0.3, counts=0.3)
STORIES = StoriesSource(num=9)
EMOJI = EmojiSource(vendors=("noto",), augmented_copies=2)


def texts_of(source: TextsSource | GlossesSource) -> list[str]:
    readings = list(read_source(source, "0"))
    assert all(reading.sample.kind == "document" for reading in readings)
    assert all(list(reading.visuals()) == [] for reading in readings)
    return [str(text) for reading in readings for text in reading.sample.segments]


@pytest.mark.parametrize("source", [SCENES, EMOJI, STORIES], ids=["scenes", "emoji", "stories"])
def test_texts_are_those_of_the_source_in_its_order(
    source: ScenesSource | EmojiSource | StoriesSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    paired = [reading.sample for reading in read_source(source, "7-texts")]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture was drawn")

    for name in ("render_scene", "load_drawings", "augment_drawings"):
        monkeypatch.setattr(sources, name, refuse)
    alone = [r.sample for r in read_source(TextsSource(of=source), "7-texts")]
    assert alone == [Sample(s.id, s.segments[::2], "document") for s in paired]


def test_no_text_is_a_caption_of_a_held_out_family() -> None:
    training = {t for c in load_concepts() if not c.held_out for t in (c.label, *c.captions)}
    held_out = {t for c in load_concepts() if c.held_out for t in (c.label, *c.captions)}
    found = set(texts_of(TextsSource(of=EMOJI)))
    assert found <= training
    assert not found & (held_out - training)


def test_no_text_of_a_scene_holds_a_held_out_pair_of_icons() -> None:
    names = {name: icon for icon in ICONS for name in (icon.name, icon.plural)}
    some = re.compile("|".join(sorted(names, key=len, reverse=True)))
    for text in texts_of(TextsSource(of=SCENES)):
        icons = [names[name] for name in some.findall(text)]
        assert len(icons) >= 2, text
        assert not any(is_held_out(a, b) for a in icons for b in icons if a != b), text


def test_no_definition_names_a_held_out_emoji_or_is_kept_for_testing() -> None:
    training, tested = (
        {t.lower() for c in load_concepts() if c.held_out == side for t in (c.label, *c.captions)}
        for side in (False, True)
    )
    texts = texts_of(GlossesSource())
    assert len(texts) > 6000
    assert not {t.partition(":")[0].lower() for t in texts} & (tested - training)
    kept = load_glosses(held_out=True)
    assert len(kept) > 300
    assert not {g.id for g in kept} & {g.id for g in load_glosses(held_out=False)}


def test_texts_of_what_has_no_captions_are_refused() -> None:
    plain = {"sources": [{"kind": "texts", "of": {"kind": "edits", "num": 3}}]}
    with pytest.raises(ConfigError, match="no kind 'edits': choose one of scenes, emoji, stories"):
        parse_config(DataConfig, plain, "run.yaml")


def test_the_licence_of_the_definitions_lies_beside_them() -> None:
    folder = Path(sources.__file__).parent / "gloss_pack"
    assert "Copyright 2006 by Princeton University" in (folder / "LICENSE.txt").read_text("utf-8")

"""What a model completes: masked icons, edits, sequences; read automatically, with controls."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genvlm.data.edits import sample_edit
from genvlm.data.emoji import Vendor
from genvlm.data.images import RGBImage, save_image
from genvlm.data.scenes import INVERSE, SIZE, Relation, render_scene, sample_scenes
from genvlm.data.sequences import PictureSequence, all_sequences, draw
from genvlm.evaluation.scene_reader import judge_scenes, read_halves
from genvlm.generation.infill import inpaint
from genvlm.generation.interleaved import sample_documents
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.whole_files import write_whole
from genvlm.studies.scene_generation import drawing_settings
from genvlm.tokenization.document import Image, Segment, Text

_SEED_OF_SCENES, _SEED_OF_EDITS = 92_000, 93_000
_SHOWN = 12
_GIVEN = 2
"""Pictures of a sequence that are given."""


@dataclass(frozen=True)
class CompletionItem:
    """One thing that was completed."""

    caption: str
    pictures: dict[str, RGBImage]
    right: bool


@dataclass(frozen=True)
class Completion:
    """One kind of completion: shares in percent of right ones, and some of them to be looked at."""

    title: str
    what: str
    shares: dict[str, tuple[float, int]]
    """Percent and number of items of the model and of every control."""
    items: list[CompletionItem]


def inpaint_icons(
    pretrained: PretrainedModel, *, num: int, seed: int, vendors: tuple[Vendor, ...]
) -> Completion:
    """Mask the half of a held-out scene that shows one icon; its caption says what stood there."""
    scenes = list(sample_scenes(num, _SEED_OF_SCENES, held_out=True))
    real = [render_scene(s, vendors[i % len(vendors)]) for i, s in enumerate(scenes)]
    firsts = [i % 2 == 0 for i in range(num)]
    sides: list[Relation] = [
        s.relation if first else INVERSE[s.relation]
        for s, first in zip(scenes, firsts, strict=True)
    ]
    wanted = [s.first if first else s.second for s, first in zip(scenes, firsts, strict=True)]
    masks = [half_mask(side) for side in sides]
    settings = drawing_settings(pretrained)

    def draw_with(prompts: Sequence[str | None]) -> list[RGBImage]:
        # Guidance compares with what is drawn without a prompt: without one there is none.
        own = settings if prompts[0] else replace(settings, guidance_scale=1.0)
        return inpaint(pretrained, real, masks, prompts, own, seed=seed)

    def share(pictures: Sequence[RGBImage]) -> tuple[float, int]:
        read = read_halves(pictures, sides, vendors)
        return percent([a == b for a, b in zip(read, wanted, strict=True)])

    captions = [s.caption for s in scenes]
    drawn = draw_with(captions)
    right = [a == b for a, b in zip(read_halves(drawn, sides, vendors), wanted, strict=True)]
    tokenizer = pretrained.image_tokenizer
    shares = {
        "inpainted": percent(right),
        "control: no prompt": share(draw_with([None] * num)),
        "control: another scene's caption": share(draw_with([*captions[1:], captions[0]])),
        "real pictures after the tokenizer": share(list(tokenizer.decode(tokenizer.encode(real)))),
    }
    items = [
        CompletionItem(
            captions[i],
            {"given": np.where(masks[i][:, :, None], 200, real[i]).astype(np.uint8),
             "inpainted": drawn[i]},
            right[i],
        )
        for i in range(min(num, _SHOWN))
    ]  # fmt: skip
    what = (
        "Half of a scene is masked and its caption given; the pair of icons never met in training. "
        "Percent of pictures whose masked half then shows the icon that the caption names."
    )
    return Completion("Inpainting", what, shares, items)


def edit_scenes(
    pretrained: PretrainedModel, *, num: int, seed: int, vendors: tuple[Vendor, ...]
) -> Completion:
    """Follow instructions: half of them replace an icon so that a held-out pair results."""
    edits = [
        sample_edit(np.random.default_rng([_SEED_OF_EDITS, i]), held_out=i % 2 == 0)
        for i in range(num)
    ]
    before = [render_scene(e.before, vendors[i % len(vendors)]) for i, e in enumerate(edits)]
    codes = pretrained.encode_images(before)

    def follow(instructions: Sequence[str]) -> list[RGBImage]:
        prompts: list[Sequence[Segment]] = [
            [Image(c), Text(words)] for c, words in zip(codes, instructions, strict=True)
        ]
        documents = sample_documents(
            pretrained,
            prompts,
            drawing_settings(pretrained),
            seed=seed,
            image_next=True,
            stop_after_visual=True,
        )
        return list(pretrained.image_tokenizer.decode(np.stack([d.images[-1] for d in documents])))

    def judge(pictures: Sequence[RGBImage]) -> list[bool]:
        return [r for _, r in judge_scenes(pictures, [e.after for e in edits], vendors)]

    instructions = [e.instruction for e in edits]
    drawn = follow(instructions)
    right = judge(drawn)
    shares = {"edited": percent(right)}
    for verb, note in (("replace", ""), ("swap", ""), ("put", " elsewhere")):
        rows = [i for i, e in enumerate(edits) if e.instruction.startswith(verb)]
        shares[f"edited: {verb}{note}"] = percent([right[i] for i in rows])
    shares["control: the picture as it was"] = percent(judge(before))
    shares["control: another instruction"] = percent(
        judge(follow([*instructions[1:], instructions[0]]))
    )
    items = [
        CompletionItem(instructions[i], {"given": before[i], "edited": drawn[i]}, right[i])
        for i in range(min(num, _SHOWN))
    ]
    what = (
        "A scene and an instruction are given. Half of the edits replace an icon by one that never "
        "met the other in training. Percent of pictures that show both icons and the relation that "
        "should result."
    )
    return Completion("Editing", what, shares, items)


def continue_sequences(
    pretrained: PretrainedModel, *, num: int, seed: int, vendors: tuple[Vendor, ...]
) -> Completion:
    """Two names and pictures are given; what is next?

    Asked of orders that training documents have, and of those that none has: there the rule must be
    understood, and what followed in training misleads.
    """
    rng = np.random.default_rng(seed)
    shares: dict[str, tuple[float, int]] = {}
    items: list[CompletionItem] = []
    for held_out, order in ((True, "order never seen"), (False, "order seen in training")):
        sequences = all_sequences(_GIVEN + 1, held_out=held_out)
        sequences = [sequences[i] for i in rng.permutation(len(sequences))[:num]]
        found = _continue(pretrained, sequences, seed, vendors[0])
        named = [one.name == s.labels[_GIVEN] for one, s in zip(found, sequences, strict=True)]
        drawn = [one.read == s.labels[_GIVEN] for one, s in zip(found, sequences, strict=True)]
        shares |= {
            f"next picture, {order}": percent(drawn),
            f"next name, {order}": percent(named),
            f"control: one step of one on, {order}": percent(
                [_next_by_one(s) == s.labels[_GIVEN] for s in sequences]
            ),
            f"control: the last one again, {order}": percent(
                [s.labels[_GIVEN - 1] == s.labels[_GIVEN] for s in sequences]
            ),
        }
        for sequence, right, one in list(zip(sequences, drawn, found, strict=True))[: _SHOWN // 2]:
            given = {label: draw(label, vendors[0]) for label in sequence.labels[:_GIVEN]}
            blank = np.full((SIZE, SIZE, 3), 255, np.uint8)
            then = {f"then: {one.name or 'no name'}": blank if one.picture is None else one.picture}
            title = f"{sequence.cycle.name}, steps of {sequence.step}; {order}"
            items.append(CompletionItem(title, given | then, right))
    what = (
        "Two names with their pictures are given. Percent whose next picture is, among all of its "
        "cycle, nearest to the right one, and whose next name is the right one. Of an order never "
        "seen, no training document has these two with the one that follows."
    )
    return Completion("Continuing a sequence", what, shares, items)


class _Next(NamedTuple):
    """What a model put behind the beginning of a sequence."""

    name: str
    picture: RGBImage | None
    read: str
    """The label of the cycle whose drawing is nearest to the picture."""


def _continue(
    pretrained: PretrainedModel, sequences: Sequence[PictureSequence], seed: int, vendor: Vendor
) -> list[_Next]:
    settings = replace(drawing_settings(pretrained), guidance_scale=1.0)
    prompts = [_opening(s, pretrained, vendor) for s in sequences]
    documents = sample_documents(pretrained, prompts, settings, seed=seed, stop_after_visual=True)
    found = []
    for document, sequence in zip(documents, sequences, strict=True):
        new = document.segments[2 * _GIVEN :]
        name = next((s.text for s in new if isinstance(s, Text)), "")
        images = [s.codes for s in new if isinstance(s, Image)]
        picture = pretrained.image_tokenizer.decode(images[0][None])[0] if images else None
        read = "" if picture is None else _read_cycle(picture, sequence, vendor)
        found.append(_Next(name, picture, read))
    return found


def write_completion(completion: Completion, folder: Path) -> None:
    """`results.json` and the pictures of the first items."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number, item in enumerate(completion.items):
        names = {}
        for k, (label, picture) in enumerate(item.pictures.items()):
            names[label] = f"{number:03d}-{k}.png"
            save_image(picture, folder / names[label])
        items.append({"caption": item.caption, "pictures": names, "right": item.right})
    results = {
        "title": completion.title, "what": completion.what, "shares": completion.shares,
        "items": items,
    }  # fmt: skip
    write_whole(folder / "results.json", json.dumps(results, indent=1, ensure_ascii=False))


def half_mask(side: Relation) -> np.ndarray:
    """True in the half of a scene where the icon "left of", "above" ... the other stands."""
    mask = np.zeros((SIZE, SIZE), bool)
    half = SIZE // 2
    part = slice(0, half) if side in ("left of", "above") else slice(half, SIZE)
    if side in ("left of", "right of"):
        mask[:, part] = True
    else:
        mask[part] = True
    return mask


def percent(right: Sequence[bool]) -> tuple[float, int]:
    """Percent of true values, and how many values there are."""
    return 100 * float(np.mean(right)) if right else 0.0, len(right)


def _opening(
    sequence: PictureSequence, pretrained: PretrainedModel, vendor: Vendor
) -> list[Segment]:
    pictures = pretrained.encode_images(sequence.render(vendor)[:_GIVEN])
    pairs = zip(sequence.labels[:_GIVEN], pictures, strict=True)
    return [s for label, codes in pairs for s in (Text(label), Image(codes))]


def _read_cycle(picture: RGBImage, sequence: PictureSequence, vendor: Vendor) -> str:
    """The nearest drawing of the cycle, by mean squared difference."""
    labels = sequence.cycle.labels
    drawings = np.stack([draw(label, vendor) for label in labels]).astype(np.float32)
    return labels[int(((drawings - picture) ** 2).mean((1, 2, 3)).argmin())]


def _next_by_one(sequence: PictureSequence) -> str:
    """What follows if the step were one in the same direction."""
    labels, sign = sequence.cycle.labels, 1 if sequence.step > 0 else -1
    at = labels.index(sequence.labels[_GIVEN - 1])
    return labels[(at + sign) % len(labels)]

"""What is measured of each document, once: everything that rules ask of its picture."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from genvlm.data.curation.looks import PLACES, Look, View, look_at
from genvlm.data.images import RGBImage, decode_image, image_digest
from genvlm.data.raw import Media, RawDocument
from genvlm.errors import DataError, ImageError

VERSION = 1
"""Part of the key of stored measures: raise it when a picture measures otherwise."""


@dataclass(frozen=True, kw_only=True)
class PictureMeasures:
    """Of a picture that could be decoded."""

    width: int
    height: int
    digest: str
    """Equal for equal pixels."""
    contrast: int
    """Levels between the darkest and the lightest of a channel, 0.1 % at either end left out; the
    largest of the three channels."""
    look: Look


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Of a pair of a picture and a caption."""

    id: str
    caption: str
    content: str
    """Digest of the undecoded picture: it must be the same when it is copied."""
    num_bytes: int
    picture: PictureMeasures | None
    """None: it cannot be decoded."""
    error: str = ""
    """Why not."""


def caption_and_media(document: RawDocument, source: str) -> tuple[str, Media]:
    """The parts of a pair. Raises DataError for what is none, or shows a video."""
    texts = [segment for segment in document.segments if isinstance(segment, str)]
    media = [segment for segment in document.segments if isinstance(segment, Media)]
    if document.kind != "pair" or len(texts) != 1 or len(media) != 1 or media[0].kind != "image":
        raise DataError(
            f"{source}: document {document.id!r} is no pair of a picture and a caption, and rules "
            "are of such pairs alone: name a source of captioned pictures"
        )
    return texts[0], media[0]


def measure(documents: Sequence[tuple[str, str, Media]]) -> list[dict[str, Any]]:
    """JSON of the measures of each (id, caption, media), as `Measures` are stored.

    Raises:
        DataError: a file is gone or shorter than it was. A picture that cannot be decoded is not
            an error.
    """
    return [_to_json(_measure(*document)) for document in documents]


def _measure(document_id: str, caption: str, media: Media) -> Measures:
    content = media.read()
    picture, error = None, ""
    try:
        picture = measure_picture(decode_image(content, media.name))
    except ImageError as damage:
        error = str(damage)
    return Measures(
        id=document_id,
        caption=caption,
        content=content_digest(content),
        num_bytes=len(content),
        picture=picture,
        error=error,
    )


def measure_picture(image: RGBImage) -> PictureMeasures:
    """All that rules ask of a picture."""
    return PictureMeasures(
        width=image.shape[1],
        height=image.shape[0],
        digest=hashlib.sha256(image_digest(image).encode()).hexdigest()[:32],
        contrast=_contrast(image),
        look=look_at(image),
    )


def content_digest(content: bytes) -> str:
    """Of undecoded bytes."""
    return hashlib.sha256(content).hexdigest()[:32]


def _contrast(image: RGBImage) -> int:
    counts = np.array(Image.fromarray(image).histogram()).reshape(3, 256)
    shares = counts.cumsum(1) / (image.shape[0] * image.shape[1])
    darkest, lightest = (shares > 0.001).argmax(1), (shares >= 0.999).argmax(1)
    return int((lightest - darkest).max())


def _to_json(measures: Measures) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": measures.id,
        "caption": measures.caption,
        "content": measures.content,
        "num_bytes": measures.num_bytes,
    }
    if measures.picture is None:
        return row | {"error": measures.error}
    picture = measures.picture
    look = picture.look
    return row | {
        "width": picture.width,
        "height": picture.height,
        "digest": picture.digest,
        "contrast": picture.contrast,
        "whole": _view_json(look.whole),
        "content_view": _view_json(look.content),
        "shares": [look.width_share, look.height_share],
    }


def _view_json(view: View) -> list[Any]:
    colours = base64.b64encode(view.colours.tobytes()).decode()
    return [f"{view.hash:016x}", f"{view.mirrored:016x}", colours, view.aspect]


def from_json(row: dict[str, Any]) -> Measures:
    """Measures as `measure` gave them."""
    picture = None
    if "error" not in row:
        look = Look(_view(row["whole"]), _view(row["content_view"]), *row["shares"])
        picture = PictureMeasures(
            width=row["width"],
            height=row["height"],
            digest=row["digest"],
            contrast=row["contrast"],
            look=look,
        )
    return Measures(
        id=row["id"],
        caption=row["caption"],
        content=row["content"],
        num_bytes=row["num_bytes"],
        picture=picture,
        error=row.get("error", ""),
    )


def _view(row: Iterable[Any]) -> View:
    whole, mirrored, colours, aspect = row
    pixels = np.frombuffer(base64.b64decode(colours), np.uint8).reshape(PLACES, PLACES, 3)
    return View(int(whole, 16), int(mirrored, 16), pixels, aspect)

"""MMC4 (arXiv 2304.06939): sentences of a web page, and pictures that belong to some of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genvlm.config.data import Mmc4Source
from genvlm.data.images import picture_path
from genvlm.data.layouts.interleaved import DownloadedImages, interleaved
from genvlm.data.layouts.samples import documents_of, image_file, int_field, list_field, others
from genvlm.data.raw import Media, RawDocument
from genvlm.data.rows import checked_text, read_rows, text_field
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError


def read_mmc4(source: Mmc4Source, skips: SkipBudget) -> Iterator[RawDocument]:
    """Documents; each picture stands right before its sentence, several in the order listed.

    So OpenFlamingo trained on them (open_flamingo/train/data.py). Ids are the name of the file and
    the line. A picture that was not downloaded is left out, named in `extra`, and a DataWarning at
    the end counts them.
    """
    path, folder = Path(source.path), Path(source.images)
    downloaded = DownloadedImages(path, folder)

    def document(where: str, item: tuple[int, dict[str, Any]]) -> list[RawDocument]:
        number, row = item
        texts = list_field(row, "text_list", where)
        before: dict[int, list[Media]] = {}
        missing = []
        for name, place in _images(row, len(texts), where):
            picture = picture_path(folder, name, where)
            if downloaded.has(picture, name):
                before.setdefault(place, []).append(image_file(picture))
            else:
                missing.append(name)
        segments: list[str | Media] = []
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"{where}: sentence {place} is not a text")
            segments += before.get(place, [])
            segments.append(checked_text(text, f"sentence {place}", where))
        if not segments:
            raise DataError(f"{where}: 'text_list' is empty")
        return [interleaved(f"{path.stem}-{number}", segments, others(row, "text_list"), missing)]

    rows = ((f"{path} line {number}", (number, row)) for number, row in read_rows(path))
    yield from documents_of(rows, document, skips)
    downloaded.warn()


def _images(row: dict[str, Any], num_texts: int, where: str) -> list[tuple[str, int]]:
    """Names of the pictures, and the sentences that they belong to."""
    found = []
    for info in list_field(row, "image_info", where):
        if not isinstance(info, dict):
            raise DataError(f"{where}: 'image_info' must hold JSON objects")
        name, place = (
            text_field(info, "image_name", where),
            int_field(info, "matched_text_index", where),
        )
        if not 0 <= place < num_texts:
            raise DataError(f"{where}: {name!r} belongs to sentence {place} of {num_texts}")
        found.append((name, place))
    return found

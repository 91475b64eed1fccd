"""OBELICS (arXiv 2306.16527): texts and pictures of a web page as two lists that take turns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genvlm.config.data import ObelicsSource
from genvlm.data.images import picture_path
from genvlm.data.layouts.interleaved import DownloadedImages, interleaved
from genvlm.data.layouts.parquet import parquet_rows
from genvlm.data.layouts.samples import documents_of, image_file, list_field, others
from genvlm.data.raw import Media, RawDocument
from genvlm.data.rows import checked_text, read_rows, text_field
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError


def read_obelics(source: ObelicsSource, skips: SkipBudget) -> Iterator[RawDocument]:
    """Documents; `images.jsonl` of {"url", "path"} lines says which file a URL became.

    Ids are the name of the file and the line or row. A URL that is not listed, or whose file is
    not there, is left out, named in `extra`, and a DataWarning at the end counts them.
    """
    path, folder = Path(source.path), Path(source.images)
    downloaded = DownloadedImages(path, folder)
    files = _files_of_urls(folder)

    def document(where: str, item: tuple[int, dict[str, Any]]) -> list[RawDocument]:
        number, row = item
        segments: list[str | Media] = []
        missing = []
        for text, url in _places(row, where):
            if text is not None:
                segments.append(checked_text(text, "one of 'texts'", where))
                continue
            picture = files.get(str(url))
            if downloaded.has(picture, str(url)) and picture is not None:
                segments.append(image_file(picture))
            else:
                missing.append(str(url))
        if not segments:
            raise DataError(f"{where}: none of its pictures is there, and it has no texts")
        extra = others(row, "texts", "images")
        return [interleaved(f"{path.stem}-{number}", segments, extra, missing)]

    parquet = path.suffix == ".parquet"
    rows = parquet_rows(path, ("texts", "images")) if parquet else read_rows(path)
    unit = "row" if parquet else "line"
    yield from documents_of(((f"{path} {unit} {n}", (n, row)) for n, row in rows), document, skips)
    downloaded.warn()


def _places(row: dict[str, Any], where: str) -> list[tuple[str | None, str | None]]:
    """The text or the URL at each place. Raises DataError: both or none."""
    texts, urls = list_field(row, "texts", where), list_field(row, "images", where)
    if len(texts) != len(urls):
        raise DataError(f"{where}: {len(texts)} 'texts' but {len(urls)} 'images'")
    for place, (text, url) in enumerate(zip(texts, urls, strict=True)):
        given = [value for value in (text, url) if value is not None]
        if len(given) != 1 or not isinstance(given[0], str):
            raise DataError(f"{where}: place {place} must hold one text or one URL, and one null")
    return list(zip(texts, urls, strict=True))


def _files_of_urls(folder: Path) -> dict[str, Path]:
    listed = folder / "images.jsonl"
    files: dict[str, Path] = {}
    for number, row in read_rows(listed):
        where = f"{listed} line {number}"
        url = text_field(row, "url", where)
        if url in files:
            raise DataError(f"{where}: the URL {url!r} stands twice: list it once")
        files[url] = picture_path(folder, text_field(row, "path", where), where)
    return files

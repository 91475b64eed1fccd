"""Opens a source of files, whatever its layout."""

from collections.abc import Iterator
from typing import assert_never

from genvlm.config.data import (
    CaptionsSource,
    CocoSource,
    DocumentsSource,
    FileSource,
    FolderSource,
    KarpathySource,
    Mmc4Source,
    ObelicsSource,
    ParquetSource,
    VideosSource,
    WebDatasetSource,
)
from genvlm.data.layouts.annotations import read_coco, read_karpathy
from genvlm.data.layouts.folders import read_folder, read_videos
from genvlm.data.layouts.jsonl import read_caption_lines, read_document_lines
from genvlm.data.layouts.mmc4 import read_mmc4
from genvlm.data.layouts.obelics import read_obelics
from genvlm.data.layouts.parquet import read_parquet
from genvlm.data.layouts.webdataset import read_webdataset
from genvlm.data.raw import RawDocument
from genvlm.data.skipping import SkipBudget


def open_source(source: FileSource, skips: SkipBudget | None = None) -> Iterator[RawDocument]:
    """Documents of a source in an order that depends on its files alone.

    Ids are unique within the source and hold no path above it.

    Args:
        skips: counts the samples that the reader itself finds damaged; who decodes their pictures
            counts the others, and the good ones. None: a damaged sample is an error.

    Raises:
        DataError: a file is missing, unreadable or not of the layout, or `skips` had enough.
    """
    skips = skips or SkipBudget()
    match source:
        case CaptionsSource():
            return read_caption_lines(source)
        case DocumentsSource():
            return read_document_lines(source)
        case FolderSource():
            return read_folder(source, skips)
        case VideosSource():
            return read_videos(source, skips)
        case CocoSource():
            return read_coco(source, skips)
        case KarpathySource():
            return read_karpathy(source, skips)
        case WebDatasetSource():
            return read_webdataset(source, skips)
        case ParquetSource():
            return read_parquet(source, skips)
        case ObelicsSource():
            return read_obelics(source, skips)
        case Mmc4Source():
            return read_mmc4(source, skips)
        case _:
            assert_never(source)

"""Sources of pairs of one text and one picture."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from genvlm.config.data import (
    CaptionsSource,
    CocoSource,
    EmojiSource,
    FolderSource,
    KarpathySource,
    ParquetSource,
    ScenesSource,
    Source,
    WebDatasetSource,
)
from genvlm.config.schema import Probability, strict
from genvlm.errors import ConfigError

CaptionedSource = (
    ScenesSource
    | EmojiSource
    | CaptionsSource
    | FolderSource
    | CocoSource
    | KarpathySource
    | WebDatasetSource
    | ParquetSource
)
"""Sources whose documents are pairs of a text and a picture."""


@strict
@dataclass(frozen=True, kw_only=True)
class CaptionedDataConfig:
    """Sources of captioned pictures, mixed by their sizes."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    max_bad_share: Probability = 0.0
    """Most of the samples of files that may be damaged, as of `DataConfig`."""

    def __post_init__(self) -> None:
        for number, source in enumerate(self.sources):
            if not isinstance(source, CaptionedSource):
                raise ConfigError(
                    f"sources.{number} is of kind {source.kind}, whose documents are no pairs of "
                    "one text and one picture: this kind of model learns from scenes, emoji, "
                    "captions, folder, coco, karpathy, webdataset and parquet"
                )

"""Where training documents come from."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.schema import Count, Positive, PositiveFloat, Probability, Seed, Weight, strict
from genvlm.errors import ConfigError

VendorName = Literal["noto", "twemoji", "fluent"]
Vendors = Annotated[tuple[VendorName, ...], Field(min_length=1)]


@strict
@dataclass(frozen=True, kw_only=True)
class ScenesSource:
    """Composed scenes with held-out icon pairs left out."""

    kind: Literal["scenes"] = "scenes"
    num: Positive
    vendors: Vendors = ("noto",)
    three: Probability = 0.0
    """Probability of a third icon."""
    counts: Probability = 0.0
    """Probability of counts of one to three."""
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far copies of a drawing are moved, turned, recoloured and blurred."""

    scale: tuple[float, float] = (0.75, 1.2)
    degrees: Weight = 20.0
    """Most that a copy is turned, either way."""
    shift: Weight = 0.12
    """Most that a copy is moved, as a share of its side."""
    recolour: Probability = 0.5
    """Of a copy to have its colour channels mixed; the others keep their colours."""
    recolour_strength: Weight = 1.0
    blur: Probability = 0.0
    """Of a copy to be blurred by a pixel."""

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(
                f"scale {list(self.scale)} must be two positive factors, the smaller one first"
            )


@strict
@dataclass(frozen=True, kw_only=True)
class EmojiSource:
    """Single drawings with their labels and captions."""

    kind: Literal["emoji"] = "emoji"
    vendors: Vendors = ("noto", "twemoji")
    concepts: Literal["training", "classes"] = "training"
    """Those of all training families, or only the 100 of them that emoji-classes names."""
    texts: Literal["captions", "labels"] = "captions"
    """captions: the label, and in turn another caption with each augmented copy."""
    augmented_copies: Count = 0
    """Copies of each drawing, changed by `augment` before tokenisation."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class StoriesSource:
    """Interleaved documents: two to four sentences, each followed by its scene."""

    kind: Literal["stories"] = "stories"
    num: Positive
    vendors: Vendors = ("noto",)
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class EditsSource:
    """A scene, an instruction and the scene that results, which alone is learned."""

    kind: Literal["edits"] = "edits"
    num: Positive
    vendors: Vendors = ("noto",)
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class SequencesSource:
    """Interleaved documents that go round a cycle: moon phases, clock faces, arrows."""

    kind: Literal["sequences"] = "sequences"
    num: Positive
    vendors: Vendors = ("noto",)
    max_length: Annotated[int, Field(ge=3)] = 5
    """Most pictures of one document."""
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class PhysicsSource:
    """Simulated clips of balls, walls, screens and containers, with captions."""

    kind: Literal["physics"] = "physics"
    num: Positive
    num_frames: Positive = 33
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class MovingEmojiSource:
    """Clips of one drawing that moves, with colour and direction in the caption."""

    kind: Literal["moving_emoji"] = "moving_emoji"
    num: Positive
    num_frames: Positive = 17
    vendors: Vendors = ("noto",)
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class CameraSource:
    """Clips of drawings on textured ground: a camera that pans, zooms, or sees one move."""

    kind: Literal["camera"] = "camera"
    num: Positive
    num_frames: Positive = 17
    vendors: Vendors = ("noto",)
    seed: Seed = 0


@strict
@dataclass(frozen=True, kw_only=True)
class TextsSource:
    """Texts of another source without its pictures, each as often as the source has it."""

    kind: Literal["texts"] = "texts"
    of: Annotated[ScenesSource | EmojiSource | StoriesSource, Field(discriminator="kind")]


@strict
@dataclass(frozen=True, kw_only=True)
class GlossesSource:
    """Shipped definitions of WordNet's nouns, texts alone: what the emoji's captions are about."""

    kind: Literal["glosses"] = "glosses"


@strict
@dataclass(frozen=True, kw_only=True)
class CaptionsSource:
    """A folder of pictures with a `captions.jsonl` of {"id"?, "image", "text"} lines."""

    kind: Literal["captions"] = "captions"
    path: str


@strict
@dataclass(frozen=True, kw_only=True)
class DocumentsSource:
    """A JSONL file of {"id", "segments": [{"text"} | {"image"}], "loss"?} lines."""

    kind: Literal["documents"] = "documents"
    path: str


@strict
@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """A folder of pictures, nested or not; `cat.txt` beside `cat.png` is its caption."""

    kind: Literal["folder"] = "folder"
    path: str
    captions: Literal["sidecar", "file_name", "folder_name"] = "sidecar"


@strict
@dataclass(frozen=True, kw_only=True)
class CocoSource:
    """COCO's captions, `captions_train2017.json`: one pair for each caption."""

    kind: Literal["coco"] = "coco"
    annotations: str
    images: str
    """Folder that holds the pictures by `file_name`."""


@strict
@dataclass(frozen=True, kw_only=True)
class KarpathySource:
    """Karpathy's splits, `dataset_coco.json` or `dataset_flickr30k.json`: a pair for a sentence."""

    kind: Literal["karpathy"] = "karpathy"
    annotations: str
    images: str
    """Folder that holds the pictures by `filepath` and `filename`."""
    splits: Annotated[tuple[str, ...], Field(min_length=1)] = ("train", "restval")


@strict
@dataclass(frozen=True, kw_only=True)
class WebDatasetSource:
    """Tar files whose members of one key (the name up to its first dot) are one sample."""

    kind: Literal["webdataset"] = "webdataset"
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Tar files; braces expand: `data/{000..127}.tar`."""


@strict
@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """Parquet files with a column of pictures (bytes, or a struct of `bytes`) and one of texts."""

    kind: Literal["parquet"] = "parquet"
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    image: str = "image"
    text: str = "text"
    id: str | None = None
    """Column of ids; None: file and row."""


@strict
@dataclass(frozen=True, kw_only=True)
class ObelicsSource:
    """OBELICS' documents: lists `texts` and `images`, one of which is null at each place."""

    kind: Literal["obelics"] = "obelics"
    path: str
    """JSONL or Parquet."""
    images: str
    """Folder of the downloaded pictures; `images.jsonl` in it maps each URL to a file."""


@strict
@dataclass(frozen=True, kw_only=True)
class Mmc4Source:
    """MMC4's documents: `text_list`, and `image_info` with the sentence that each picture is of."""

    kind: Literal["mmc4"] = "mmc4"
    path: str
    """JSONL."""
    images: str
    """Folder that holds the pictures by `image_name`."""


@strict
@dataclass(frozen=True, kw_only=True)
class VideosSource:
    """A folder of videos, nested or not; `clip.txt` beside `clip.mp4` is its caption."""

    kind: Literal["videos"] = "videos"
    path: str
    num_frames: Positive = 17
    """Of a clip; longer videos give several, and what is left behind the last is dropped."""
    frames_per_second: PositiveFloat | None = None
    """Videos are resampled to it; None: frames as they come."""


FileSource = (
    CaptionsSource
    | DocumentsSource
    | FolderSource
    | CocoSource
    | KarpathySource
    | WebDatasetSource
    | ParquetSource
    | ObelicsSource
    | Mmc4Source
    | VideosSource
)
"""Sources that are read from a user's files."""


@strict
@dataclass(frozen=True, kw_only=True)
class ShardsSource:
    """A folder of token shards, written by `genvlm data shard` with the run's own tokenizers."""

    kind: Literal["shards"] = "shards"
    path: str


DrawnSource = (
    ScenesSource
    | EmojiSource
    | StoriesSource
    | EditsSource
    | SequencesSource
    | PhysicsSource
    | MovingEmojiSource
    | CameraSource
    | TextsSource
    | GlossesSource
)
"""Sources of what ships with genvlm."""

Source = Annotated[
    DrawnSource | FileSource | ShardsSource,
    Field(discriminator="kind"),
]


@strict
@dataclass(frozen=True, kw_only=True)
class InfillConfig:
    """CM3: parts of a document are moved behind it and learned there."""

    probability: Probability = 0.5
    """Of a document to be rotated."""
    image: Probability = 0.5
    """Probability that a gap is in a picture, where there is one, rather than in text."""
    rectangle: Probability = 0.8
    """Probability that a picture loses a rectangle rather than all of itself."""


@strict
@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """RA-CM3 (Yasunaga et al. 2023): pairs with like captions stand in front of a pair."""

    num_documents: Positive = 1
    query_dropout: Probability = 0.2
    """Probability of each word of the caption to be left out of the query."""
    max_similarity: Probability = 0.9
    """Documents more similar to the caption than this are passed over: they would be copied."""


@strict
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """All sources, how they are mixed, and what is drawn anew for each sample."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    weights: tuple[PositiveFloat, ...] | None = None
    """Share of the documents that each source has, in their order and of any sum; None: by size,
    every document once an epoch."""
    packing: bool = False
    """Rows of `model.context_length` hold as many documents as fit, and batch sizes count rows;
    else each row is one document, padded."""
    condition_dropout: Probability = 0.1
    """Probability that a pair loses its first part: p(image) and p(text) are learned too. An edit
    loses its instruction with this probability, and its first picture too with this again."""
    image_first: Probability = 0.5
    """Probability that a pair shows its picture first."""
    infill: InfillConfig | None = None
    """Needs `syntax.num_gaps`."""
    retrieval: RetrievalConfig | None = None
    max_bad_share: Probability = 0.0
    """Most of the samples of files that may be damaged, which are then left out; 0: the first one
    stops the run."""

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.weights) != len(self.sources):
            raise ConfigError(
                f"weights has {len(self.weights)} numbers for {len(self.sources)} sources: give "
                "each source one"
            )
        if self.packing and self.retrieval is not None:
            raise ConfigError(
                "packing and retrieval exclude each other: what is retrieved fills the context "
                "already; leave one of them out"
            )

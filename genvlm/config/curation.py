"""Which documents of a user's files are kept, and how they are written: `genvlm data curate`."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.data import FileSource
from genvlm.config.schema import (
    Count,
    Positive,
    PositiveFloat,
    Probability,
    Seed,
    Weight,
    strict,
)
from genvlm.errors import ConfigError

Distance = Annotated[int, Field(ge=0, le=15)]
"""Bits in which two hashes of 64 bits may differ; beyond 15 most pairs of pictures match."""
Same = Literal["picture", "picture_and_caption"]
PatternName = Literal[
    "url",
    "email",
    "file_name",
    "camera_name",
    "hexadecimal",
    "no_letters",
    "placeholder",
    "opening",
]
Script = Literal[
    "latin", "cyrillic", "greek", "han", "kana", "hangul", "arabic", "hebrew", "devanagari",
    "thai", "other",
]  # fmt: skip


@strict
@dataclass(frozen=True, kw_only=True)
class SizeRule:
    """Pictures within these sizes, in pixels."""

    kind: Literal["size"] = "size"
    name: str | None = None
    """In the ledger; None: the kind."""
    min_side: Positive = 32
    max_side: Positive | None = None


@strict
@dataclass(frozen=True, kw_only=True)
class AspectRule:
    """Pictures whose longer side is at most `max_ratio` times the shorter one."""

    kind: Literal["aspect"] = "aspect"
    name: str | None = None
    max_ratio: Annotated[float, Field(ge=1)] = 4.0


@strict
@dataclass(frozen=True, kw_only=True)
class BlankRule:
    """No pictures of (nearly) one colour."""

    kind: Literal["blank"] = "blank"
    name: str | None = None
    min_contrast: Count = 16
    """Levels (of 255) between the darkest and the lightest of a colour channel, 0.1 % at either
    end left out; the largest of the three channels counts."""


@strict
@dataclass(frozen=True, kw_only=True)
class CaptionLengthRule:
    """Captions within these lengths."""

    kind: Literal["caption_length"] = "caption_length"
    name: str | None = None
    min_chars: Count = 3
    max_chars: Positive = 1000
    min_words: Count = 1
    max_words: Positive = 200


@strict
@dataclass(frozen=True, kw_only=True)
class RepeatedTextRule:
    """Captions that do not repeat themselves (Gopher, arXiv 2112.11446, table A1)."""

    kind: Literal["repeated_text"] = "repeated_text"
    name: str | None = None
    ngram: Positive = 2
    """Words of a phrase."""
    max_share: Probability = 0.5
    """Of a caption's phrases that stood in it before."""


@strict
@dataclass(frozen=True, kw_only=True)
class SharedCaptionRule:
    """No captions that more than `max_pictures` pictures share: ALIGN, arXiv 2102.05918."""

    kind: Literal["shared_caption"] = "shared_caption"
    name: str | None = None
    max_pictures: Positive = 10


@strict
@dataclass(frozen=True, kw_only=True)
class BoilerplateRule:
    """No captions that say nothing of a picture."""

    kind: Literal["boilerplate"] = "boilerplate"
    name: str | None = None
    patterns: tuple[PatternName, ...] = (
        "email", "url", "file_name", "camera_name", "hexadecimal", "no_letters", "placeholder",
    )  # fmt: skip
    """Known ones (`genvlm/data/curation/captions.py`). `opening`, which is "photo of" and its like
    in front of what may be a fine caption, is not among them by default."""
    own: tuple[str, ...] = ()
    """Regular expressions, sought anywhere, upper and lower case alike."""


@strict
@dataclass(frozen=True, kw_only=True)
class ScriptRule:
    """Captions whose letters are of these scripts."""

    kind: Literal["script"] = "script"
    name: str | None = None
    allowed: Annotated[tuple[Script, ...], Field(min_length=1)] = ("latin",)
    min_share: Probability = 0.9
    """Of the letters of a caption; one without letters passes."""


@strict
@dataclass(frozen=True, kw_only=True)
class ExactDuplicatesRule:
    """Of pictures with equal pixels, the first."""

    kind: Literal["exact_duplicates"] = "exact_duplicates"
    name: str | None = None
    same: Same = "picture"
    """picture_and_caption: a picture may come again with another caption, as in COCO."""


@strict
@dataclass(frozen=True, kw_only=True)
class NearDuplicatesRule:
    """Of pictures that look the same, the first: rescaled, recompressed, moved, with a border."""

    kind: Literal["near_duplicates"] = "near_duplicates"
    name: str | None = None
    same: Same = "picture"
    max_distance: Distance = 6
    """Bits in which the hashes of two pictures may differ."""
    max_colour: Count = 16
    """Levels by which a place of one may differ from the same place of the other, where pictures
    reach over all 255 levels, less for paler ones: a red heart is no green one."""
    mirrored: bool = False
    """Mirrored copies count too. Not where captions say left and right."""


@strict
@dataclass(frozen=True, kw_only=True)
class EvaluationPicturesRule:
    """No pictures that look like those of an evaluation."""

    kind: Literal["evaluation_pictures"] = "evaluation_pictures"
    name: str | None = None
    folders: tuple[str, ...] = ()
    """Of pictures, nested or not."""
    emoji: bool = False
    """The drawings that our own benchmarks ask about: all of Fluent, and the held-out concepts of
    the other vendors."""
    max_distance: Distance = 8
    max_colour: Count = 32
    mirrored: bool = True

    def __post_init__(self) -> None:
        if not self.folders and not self.emoji:
            raise ConfigError("evaluation_pictures needs `folders`, or `emoji: true`")


@strict
@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """The pictures that a score likes best: of a file, or of a model that judges each pair."""

    kind: Literal["score"] = "score"
    name: str | None = None
    file: str | None = None
    """JSONL of {"id", "score"} lines; higher is better."""
    model: str | None = None
    """Folder of a model of genvlm, or of CLIP in transformers' layout."""
    method: str | None = None
    """Of the model, as in `genvlm score`; None: its default."""
    keep: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of those that came so far, the best ones."""
    min_score: float | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.model is None):
            raise ConfigError("a score rule needs either `file` or `model`")
        if (self.keep is None) == (self.min_score is None):
            raise ConfigError("a score rule needs either `keep` (a share) or `min_score`")
        if self.method is not None and self.model is None:
            raise ConfigError("`method` is of a model, and this score rule names none")


@strict
@dataclass(frozen=True, kw_only=True)
class BalanceRule:
    """MetaCLIP (arXiv 2309.16671, algorithm 1): captions by entries, frequent entries capped.

    A caption stays if any of its entries draws it, which an entry of n captions does with
    probability min(1, cap / n). A caption without an entry of the file is dropped.
    """

    kind: Literal["balance"] = "balance"
    name: str | None = None
    entries: str | None = None
    """File with one entry (words; `_` is a blank) a line, such as WordNet's lemmas; None: the words
    that at least `min_count` captions hold; captions of rarer words alone stay."""
    min_count: Positive = 3
    cap: PositiveFloat = 20_000
    seed: Seed = 0


Rule = Annotated[
    SizeRule
    | AspectRule
    | BlankRule
    | CaptionLengthRule
    | RepeatedTextRule
    | SharedCaptionRule
    | BoilerplateRule
    | ScriptRule
    | ExactDuplicatesRule
    | NearDuplicatesRule
    | EvaluationPicturesRule
    | ScoreRule
    | BalanceRule,
    Field(discriminator="kind"),
]


@strict
@dataclass(frozen=True, kw_only=True)
class SyntheticCaptions:
    """Captions by a captioner for some of the kept pictures; the original stays beside."""

    file: str | None = None
    """JSONL of {"id", "text"} lines."""
    model: str | None = None
    """Folder of a model of genvlm that continues a picture with text."""
    share: Probability = 0.5
    """Of the pictures that take the new caption, drawn by (seed, id)."""
    temperature: Weight = 0.0
    """Of a model; 0: its likeliest token each time."""
    max_tokens: Positive = 64
    """Of a model's caption."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        if (self.file is None) == (self.model is None):
            raise ConfigError("captions need either `file` or `model`")


@strict
@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """Sources of pairs of a picture and a caption, the rules in their order, the output."""

    kind: Literal["curation"] = "curation"
    sources: Annotated[
        tuple[Annotated[FileSource, Field(discriminator="kind")], ...], Field(min_length=1)
    ]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    """A document is dropped by the first of them that it fails; one whose picture cannot be read is
    dropped as `unreadable` before all of them."""
    captions: SyntheticCaptions | None = None
    max_unreadable: Probability = 0.1
    """Share of unreadable pictures above which the run stops: something else is wrong then."""
    pairs_per_shard: Positive = 1000
    examples: Annotated[int, Field(ge=1, le=100)] = 12
    """Of each rule, shown in the ledger."""

    def __post_init__(self) -> None:
        twice = [name for name, times in Counter(self.rule_names).items() if times > 1]
        if twice:
            raise ConfigError(f"two rules are named {twice[0]!r}: give each a `name` of its own")
        if "unreadable" in self.rule_names:
            raise ConfigError("no rule may be named 'unreadable', which is always the first one")

    @property
    def rule_names(self) -> tuple[str, ...]:
        """Of the rules, in their order."""
        return tuple(rule.name or rule.kind for rule in self.rules)

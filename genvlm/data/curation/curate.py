"""Curation from sources to shards: measure once, apply the rules in order, write what is kept."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genvlm.config.curation import CurationConfig, EvaluationPicturesRule, ScoreRule
from genvlm.config.schema import dump_config, to_plain
from genvlm.data.curation.documents import Pair, SourcePairs, evaluation_pictures
from genvlm.data.curation.given import (
    Captioner,
    PairScorer,
    compute_values,
    read_values,
    values_of,
)
from genvlm.data.curation.ledger import Decisions, ledger_json, measures_json, write_lines
from genvlm.data.curation.looks import Look, look_at
from genvlm.data.curation.measures import VERSION, Measures, content_digest
from genvlm.data.curation.rules import Helpers, apply_rules
from genvlm.data.curation.store import Progress, measure_all
from genvlm.data.curation.tar_writer import KeptPair, ShardWriter
from genvlm.data.hashed import hash_share
from genvlm.data.images import RGBImage, decode_image
from genvlm.data.skipping import SkipBudget
from genvlm.errors import ConfigError, DataError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import LOCK_FILE, hold_folder, write_whole

THUMBNAIL = 96
"""Longest side in pixels."""
CONTACT_SHEET = 240
"""Kept pictures of which thumbnails are made."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """What opens the models that a configuration names."""

    scorer: Callable[[ScoreRule], PairScorer]
    captioner: Callable[[CurationConfig], Captioner]


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What a curation wrote, and what its page shows."""

    ledger: dict[str, Any]
    decisions: Decisions
    thumbnails: Mapping[int, RGBImage]
    """Of examples and of some kept pictures, by number."""


def curate(
    config: CurationConfig,
    out: Path,
    models: Models,
    *,
    num_workers: int = 1,
    resume: bool = False,
    progress: Callable[[str], Progress] = lambda stage: lambda done, total: None,
) -> Curated:
    """Curate into the folder `out`: `shards/`, `ledger.json`, `ledger.jsonl`, `config.yaml`.

    Neither `num_workers` nor a kill and `resume` change a byte of them.

    Args:
        resume: go on with what `out` holds. The measures are of the sources alone, so that rules
            may have changed: no picture is decoded again for them.
        progress: given a stage's name, what to tell of it.

    Raises:
        ConfigError: `out` is not empty, or its measures are of other sources.
        StorageError: another process curates into `out`, or it cannot be written.
        DataError: a source is missing or changed, too much is damaged, or a rule drops everything.
    """
    with hold_folder(out):
        return _curate(config, out, models, num_workers, resume, progress)


def _curate(
    config: CurationConfig,
    out: Path,
    models: Models,
    num_workers: int,
    resume: bool,
    progress: Callable[[str], Progress],
) -> Curated:
    source_pairs = SourcePairs(config.sources, config.max_unreadable)
    _prepare(config, out, resume)
    skips = SkipBudget(max_share=config.max_unreadable)
    measured = measure_all(
        (pair[:3] for pair in source_pairs.read(skips)),
        out / "measures",
        num_workers,
        progress("measuring"),
        skips,
    )
    skips.finish()
    if not measured:
        raise DataError("the sources hold no pairs of a picture and a caption")
    work = _Work(config, out, source_pairs, measured, progress)
    helpers = Helpers(scores=partial(work.scores, models), evaluation_looks=_evaluation_looks)
    decisions = Decisions(measured, apply_rules(config.rules, measured, helpers))
    if not decisions.kept:
        most = max(decisions.reports, key=lambda report: len(report.drops))
        raise DataError(
            f"the rules drop all {len(measured)} documents, {len(most.drops)} of them by "
            f"{most.name}: loosen it"
        )
    captions = work.captions(models, decisions.kept)
    thumbnails, shards = work.write(decisions, captions)
    write_lines(decisions, out / "ledger.jsonl")
    used = None if captions is None else _caption_counts(captions)
    ledger = ledger_json(config, decisions, skips, used, shards)
    write_whole(out / "ledger.json", json.dumps(ledger, ensure_ascii=False, indent=1) + "\n")
    return Curated(ledger=ledger, decisions=decisions, thumbnails=thumbnails)


def _prepare(config: CurationConfig, out: Path, resume: bool) -> None:
    key = fingerprint_of([VERSION, [to_plain(source) for source in config.sources]])
    stored = out / "measures" / "key.json"
    if any(path.is_file() for path in out.rglob("*") if path.name != LOCK_FILE):
        if not resume:
            raise ConfigError(f"{out} is not empty: go on with --resume, or name another folder")
        if not stored.is_file() or json.loads(stored.read_text("utf-8")) != {"key": key}:
            raise ConfigError(
                f"{out} was not made of the sources of this configuration: name another folder"
            )
    stored.parent.mkdir(parents=True, exist_ok=True)
    write_whole(stored, json.dumps({"key": key}))
    write_whole(out / "config.yaml", dump_config(config))
    # The last thing that is written says that all else is there.
    (out / "ledger.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class _Work:
    """The parts of a curation that read pictures again."""

    config: CurationConfig
    out: Path
    source_pairs: SourcePairs
    measured: Sequence[Measures]
    progress: Callable[[str], Progress]

    def scores(self, models: Models, rule: ScoreRule, numbers: Sequence[int]) -> Sequence[float]:
        """Scores of some documents by a rule's file or model."""
        ids = [self.measured[n].id for n in numbers]
        if rule.file is not None:
            path = Path(rule.file)
            return values_of(read_values(path, "score", (int, float)), ids, path)
        scorer = models.scorer(rule)
        return compute_values(
            _kept_in(self.out / "scores", scorer.fingerprint, ids),
            ids,
            lambda places: self._pictures([numbers[p] for p in places]),
            scorer.score,
            self.progress("scoring"),
        )

    def captions(self, models: Models, kept: Sequence[int]) -> dict[int, str] | None:
        """New captions of those kept documents that take one; "" where there is none."""
        settings = self.config.captions
        if settings is None:
            return None
        drawn = {n: hash_share(f"{settings.seed}\0{self.measured[n].id}") for n in kept}
        chosen = [n for n in kept if drawn[n] < settings.share]
        ids = [self.measured[n].id for n in chosen]
        if settings.file is not None:
            given = read_values(Path(settings.file), "text", str)
            texts = [given.get(document, "") for document in ids]
        else:
            captioner = models.captioner(self.config)
            texts = compute_values(
                self.out
                / "captions"
                / f"{fingerprint_of([captioner.fingerprint, ids])[:16]}.jsonl",
                ids,
                lambda places: self._pictures([chosen[p] for p in places]),
                lambda images, _: captioner.caption(images),
                self.progress("captioning"),
            )
        return {n: text.strip() for n, text in zip(chosen, texts, strict=True)}

    def _pictures(self, numbers: Sequence[int]) -> Iterator[tuple[str, RGBImage]]:
        ids = [measures.id for measures in self.measured]
        for _, pair in self.source_pairs.read_some(ids, set(numbers)):
            yield pair.caption, decode_image(pair.media.read(), pair.media.name)

    def write(
        self, decisions: Decisions, captions: Mapping[int, str] | None
    ) -> tuple[dict[int, RGBImage], list[dict[str, Any]]]:
        """Write the shards in one pass over the sources, and shrink what the page shows."""
        kept = decisions.kept
        identities = [
            [self.measured[n].id, self.measured[n].content, (captions or {}).get(n)] for n in kept
        ]
        writer = ShardWriter(self.out / "shards", identities, self.config.pairs_per_shard)
        places = {n: place for place, n in enumerate(kept)}
        shown = _shown(decisions, self.config.examples)
        thumbnails: dict[int, RGBImage] = {}
        unwritten = {n for n in kept if writer.wants(places[n])}

        def pairs() -> Iterator[tuple[int, KeptPair]]:
            report = self.progress("writing")
            ids = [measures.id for measures in self.measured]
            for number, pair in self.source_pairs.read_some(ids, unwritten | shown):
                content = pair.media.read()
                if content_digest(content) != self.measured[number].content:
                    raise DataError(
                        f"{pair.media.name} has changed since it was measured: curate into "
                        "another folder"
                    )
                if number in shown:
                    thumbnails[number] = thumbnail(decode_image(content, pair.media.name))
                if number in unwritten:
                    record = _record(pair, self.measured[number], captions, number)
                    yield places[number], KeptPair(record=record, content=content)
                report(number + 1, len(self.measured))

        writer.write(pairs())
        return thumbnails, writer.summary()


def _kept_in(folder: Path, model: str, ids: Sequence[str]) -> Path:
    """Where what a model, by its fingerprint, gave for some documents is kept."""
    return folder / f"{fingerprint_of([model, ids])[:16]}.jsonl"


def _shown(decisions: Decisions, num_examples: int) -> set[int]:
    """Examples of each rule with what they are like, and a sample of what is kept."""
    numbers = {measures.id: n for n, measures in enumerate(decisions.measured)}
    shown = set(decisions.sample(CONTACT_SHEET))
    for report in decisions.reports[1:]:
        for number in decisions.examples(report, num_examples):
            shown |= {number, numbers.get(report.drops[number].like, number)}
    return shown


def _record(
    pair: Pair, measures: Measures, captions: Mapping[int, str] | None, number: int
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": pair.id,
        "caption": pair.caption,
        "measures": measures_json(measures),
    }
    if pair.extra:
        record["source"] = pair.extra
    if captions is not None:
        record["original_text"] = pair.caption
        record["caption_from"] = "synthetic" if captions.get(number) else "source"
        record["caption"] = captions.get(number) or pair.caption
    return record


def _caption_counts(captions: Mapping[int, str]) -> dict[str, int]:
    """How many pictures took a new caption, and for how many there was none."""
    taken = sum(bool(text) for text in captions.values())
    return {"synthetic": taken, "wanted_but_missing": len(captions) - taken}


def _evaluation_looks(rule: EvaluationPicturesRule) -> Iterator[tuple[str, Look]]:
    return ((name, look_at(image)) for name, image in evaluation_pictures(rule))


def thumbnail(image: RGBImage, side: int = THUMBNAIL) -> RGBImage:
    """The whole picture in the middle of a white square of `side` pixels, never enlarged."""
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BOX)
    square = Image.new("RGB", (side, side), "white")
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return np.asarray(square)

"""`genvlm data curate`: rules over pairs of a picture and a caption, a ledger, tar shards."""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import (
    Subparsers,
    add_command,
    add_device_option,
    positive,
    progress_bar,
)
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.config.curation import CurationConfig, ScoreRule
    from genvlm.data.curation.given import Captioner, PairScorer
    from genvlm.data.curation.store import Progress
    from genvlm.data.images import RGBImage


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "curate",
        run,
        summary="Keep the documents that pass every rule of a configuration, and write them as "
        "WebDataset shards, beside a ledger of what dropped the others: ledger.json, "
        "ledger.jsonl, ledger.html.",
        example="genvlm data curate configs/data/curate-own.yaml --out runs/curated",
    )
    parser.add_argument("config", help="YAML of `kind: curation`, or the name of a shipped one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument(
        "--num-workers", type=positive, default=1, help="processes that measure pictures (1)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with what --out holds; rules may have changed since, sources may not",
    )
    parser.add_argument("--json", action="store_true", help="print the ledger and nothing else")
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Curate, write the page, print how many stay."""
    from genvlm.config.assets import resolve_path
    from genvlm.config.curation import CurationConfig
    from genvlm.config.kinds import config_class
    from genvlm.config.schema import load_config
    from genvlm.data.curation.curate import Models, curate
    from genvlm.studies.curation_page import write_curation_page

    check_output_folder(arguments.out)
    path = resolve_path(arguments.config)
    if config_class(path) is not CurationConfig:
        raise ConfigError(f"{path} is no configuration of `kind: curation`: name one")
    config = load_config(CurationConfig, path)
    models = Models(
        scorer=lambda rule: _scorer(rule, arguments.device),
        captioner=lambda config: _captioner(config, arguments.device),
    )
    with ExitStack() as stack:

        def progress(stage: str) -> "Progress":
            stack.close()
            return stack.enter_context(progress_bar(stage))

        curated = curate(
            config,
            arguments.out,
            models,
            num_workers=arguments.num_workers,
            resume=arguments.resume,
            progress=progress,
        )
    write_curation_page(curated, arguments.out, config)
    if arguments.json:
        print(json.dumps(curated.ledger, ensure_ascii=False))
        return 0
    _print_ledger(curated.ledger)
    print(arguments.out / "ledger.html")
    return 0


def _print_ledger(ledger: dict[str, Any]) -> None:
    width = max(len(rule["name"]) for rule in ledger["rules"])
    print(f"{'documents':{width}}  {ledger['in']:>9,}")
    for rule in ledger["rules"]:
        print(f"{rule['name']:{width}}  {-rule['dropped']:>9,}")
    print(f"{'kept':{width}}  {ledger['kept']:>9,}")
    if ledger["skipped_by_readers"]:
        print(f"damaged samples skipped by the readers: {ledger['skipped_by_readers']}")


def _scorer(rule: "ScoreRule", device: str) -> "PairScorer":
    from genvlm.data.curation.given import PairScorer
    from genvlm.scoring.open import open_scorer
    from genvlm.scoring.protocols import Grid

    scorer = open_scorer(str(rule.model), rule.method, device=device)  # type: ignore[arg-type]

    def score(images: "Sequence[RGBImage]", captions: Sequence[str]) -> list[float]:
        grids = [
            Grid(item_id=str(n), images=[image], texts=[caption])
            for n, (image, caption) in enumerate(zip(images, captions, strict=True))
        ]
        return [float(scores.values[0, 0]) for scores in scorer.score(grids)]

    return PairScorer(fingerprint=scorer.info.fingerprint, score=score)


def _captioner(config: "CurationConfig", device: str) -> "Captioner":
    from genvlm.data.curation.given import Captioner
    from genvlm.data.images import image_digest
    from genvlm.generation.interleaved import sample_documents
    from genvlm.generation.sampling import SamplingSettings
    from genvlm.models.pretrained import load_pretrained
    from genvlm.nn.safetensors_folder import fingerprint_of
    from genvlm.tokenization.document import Image, Text

    settings = config.captions
    if settings is None or settings.model is None:
        raise ValueError("no model of captions")
    pretrained = load_pretrained(Path(settings.model), device=device)
    sampling = SamplingSettings(temperature=settings.temperature)

    def caption(images: "Sequence[RGBImage]") -> list[str]:
        codes = pretrained.encode_images(images)
        longest = max(grid.size for grid in codes) + 8 + settings.max_tokens
        documents = sample_documents(
            pretrained,
            [[Image(grid)] for grid in codes],
            sampling,
            # Of the pictures, not of their place: a resumed run draws the same.
            seed=settings.seed + int(image_digest(images[0]).split("|")[1][:7], 16),
            max_tokens=min(longest, pretrained.model.config.context_length),
        )
        texts = []
        for document in documents:
            said = document.segments[1:2]
            texts.append(said[0].text if said and isinstance(said[0], Text) else "")
        return texts

    how = [settings.temperature, settings.seed, settings.max_tokens]
    return Captioner(fingerprint=fingerprint_of([pretrained.fingerprint, how]), caption=caption)

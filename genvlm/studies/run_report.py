"""The report of a run folder: one HTML page of what was trained, drawn, judged and classified.

Everything comes from files of the run: log, configuration, model folder, evaluations, samples.
Parts that were not run are left out.
"""

import json
from dataclasses import replace
from pathlib import Path

from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.kinds import config_class
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.schema import load_config
from genvlm.config.training import RunConfig, TrainConfig
from genvlm.data.emoji import LICENCES, load_drawings, split_concepts
from genvlm.data.images import RGBImage, load_image
from genvlm.errors import DataError
from genvlm.evaluation.blocks import (
    Code,
    Gallery,
    Headline,
    Interval,
    Prose,
    Section,
    Story,
    Table,
    Tile,
)
from genvlm.evaluation.records import read_records
from genvlm.evaluation.report import render_report, save_report
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.models.model_folder import is_finished
from genvlm.models.pretrained import PretrainedModel, load_pretrained
from genvlm.studies.benchmark_page import benchmark_section, browse
from genvlm.studies.evaluations import CLASSES, DEMO_BENCHMARKS, PAIRS, build_benchmark, limit_of
from genvlm.studies.training_section import read_run_log, training_section
from genvlm.training.run_folder import CONFIG_FILE, MODEL_FOLDER

COMMANDS_FILE = "commands.txt"
EVAL_FOLDER, SCENES_FOLDER, STORIES_FOLDER = "eval", "scene_generation", "stories"
COMPLETIONS_FOLDER = "completions"
# What the page and its loss are called, of models that learn from pairs.
_OF_PAIRS: dict[type[RunConfig], tuple[str, str]] = {
    DiffusionTrainConfig: ("A diffusion model", "mean squared error"),
    ContrastiveTrainConfig: ("A contrastive model", "loss, nats per pair"),
    CoCaTrainConfig: ("A contrastive captioner", "losses, nats per pair and per piece"),
    MaskedTrainConfig: ("A masked model", "losses, nats per pair or masked place"),
    ProjectorTrainConfig: ("A projector", "loss, nats per token of a caption"),
}
_TITLES = {
    "scenes": "Compositional judgement: two pictures, two captions",
    "scenes-fluent": "The same with icons of the unseen vendor",
    "scenes-rich": "Compositional judgement with three icons, counts and colours",
    "scenes-rich-fluent": "The same with icons of the unseen vendor",
    PAIRS: "Compositional judgement: one emoji, two labels",
    CLASSES: "Zero-shot classification of 100 concepts",
}


def build_report(run: Path) -> Path:
    """Write `run/report.html`; `run/commands.txt` is shown where it is there.

    Raises:
        DataError: the folder holds no run of a model, or has logged nothing yet.
    """
    if not (run / CONFIG_FILE).is_file():
        raise DataError(f"{run} is no run folder: it lacks {CONFIG_FILE}")
    found = config_class(run / CONFIG_FILE)
    if found is not TrainConfig and found not in _OF_PAIRS:
        raise DataError(
            f"{run} trained a tokenizer: its card and picture are in {run / 'tokenizer'}"
        )
    config = load_config(found, run / CONFIG_FILE)
    assert isinstance(config, RunConfig)  # as all of these are
    if not read_run_log(run):
        raise DataError(
            f"{run} has logged nothing yet, which it does every {config.log_every} steps: wait for "
            f"the first of them or, if it was stopped, go on with genvlm train --resume"
        )
    if not isinstance(config, TrainConfig):
        return _report_of_pairs(config, run)
    training, headlines = training_section(config, run, loss_title="loss, nats per token")
    sections = [training]
    if is_finished(run / MODEL_FOLDER):  # it may be being written
        pretrained = load_pretrained(run / MODEL_FOLDER)
        if any(getattr(source, "vendors", ()) for source in config.data.sources):
            sections.append(_tokenizer_section(pretrained))
        num = sum(p.numel() for p in pretrained.model.parameters())
        headlines.append(Headline("parameters", f"{num / 1e6:.1f} M"))
    if (run / SCENES_FOLDER / "results.json").is_file():
        section, tile = _generation_section(run / SCENES_FOLDER)
        sections.append(section)
        headlines.append(tile)
    if (run / STORIES_FOLDER / "documents.jsonl").is_file():
        sections.append(_stories_section(run / STORIES_FOLDER))
    for results in sorted((run / COMPLETIONS_FOLDER).glob("*/results.json")):
        section, tile = _completion_section(results)
        sections.append(section)
        headlines.append(tile)
    for name in DEMO_BENCHMARKS:
        folder = run / EVAL_FOLDER / name
        if (folder / "summary.json").is_file():
            section, tile = _benchmark_section(name, folder)
            sections.append(section)
            headlines.append(tile)
    shows_drawings = len(sections) > 1  # as all sections do but that of the training
    sections.append(_provenance(run))
    page = run / "report.html"
    subtitle = _subtitle(config, "packed rows" if config.data.packing else "documents")
    footer = f"Drawings: {', '.join(LICENCES.values())}." if shows_drawings else ""
    title = f"One model, used by its likelihood: {run.resolve().name}"
    save_report(render_report(title, subtitle, headlines, sections, footer), page)
    return page


def _report_of_pairs(config: RunConfig, run: Path) -> Path:
    name, loss_title = _OF_PAIRS[type(config)]
    training, headlines = training_section(config, run, loss_title=loss_title)
    page, subtitle = run / "report.html", _subtitle(config, "pairs")
    sections = [training, _provenance(run)]
    title = f"{name}: {run.resolve().name}"
    save_report(render_report(title, subtitle, headlines, sections), page)
    return page


def _subtitle(config: RunConfig, samples: str) -> str:
    return (
        f"{config.num_steps:,} steps of {config.global_batch_size} {samples}, "
        f"{config.precision}, seed {config.seed}"
    )


def _provenance(run: Path) -> Section:
    commands = run / COMMANDS_FILE
    return Section(
        "How this page was made",
        [
            *([Code(commands.read_text(), "bash", "Commands")] if commands.is_file() else []),
            Code((run / CONFIG_FILE).read_text(), "yaml", "Configuration", collapsed=True),
        ],
    )


def _tokenizer_section(pretrained: PretrainedModel) -> Section:
    tokenizer = pretrained.image_tokenizer
    tiles = []
    for vendor, held_out in (("noto", True), ("twemoji", True), ("fluent", True)):
        picks = [c.index for c in split_concepts(held_out)][::31][:4]
        drawings = list(load_drawings(vendor)[picks])
        decoded = tokenizer.decode(tokenizer.encode(drawings))
        for original, copy in zip(drawings, decoded, strict=True):
            tiles.append(Tile([original, copy], ["original", "from codes"], vendor))
    rows, columns = tokenizer.grid
    text = f"Each picture becomes {rows * columns} codes out of {tokenizer.config.codebook_size:,}."
    caption = "Drawings of held-out families; Fluent is the vendor that nothing was trained on."
    return Section("Image tokenizer", [Gallery(tiles, caption)], text)


def _generation_section(folder: Path) -> tuple[Section, Headline]:
    results = json.loads((folder / "results.json").read_text())
    rows = [
        [name, *(_share(value, n) for value in values), n]
        for name, (*values, n) in results["shares"].items()
    ]
    tiles = [
        Tile(
            [load_image(folder / item["image"]), load_image(folder / item["nearest"])],
            ["generated", "training picture with most equal codes"],
            item["caption"],
            good=item["relation"],
        )
        for item in results["items"]
    ]
    generated = results["shares"]["generated"]
    table = Table(
        ["percent", "both icons", "right relation", "pictures read"],
        rows,
        "Percent with 95 % Wilson intervals, read by nearest icon. The two icons of a caption "
        "never met in training.",
        highlight_rows=[0],
        bars=["both icons", "right relation"],
    )
    copied = (
        f"Temperature {results['temperature']:g}, guidance {results['guidance_scale']:g}. "
        f"{results['copied']:.1f} % of the generated pictures equal a training picture in every "
        f"code."
    )
    section = Section("Generated pictures", [table, Prose(copied), Gallery(tiles)])
    return section, Headline("right relation drawn", f"{generated[1]:.0f} %", "held-out captions")


def _stories_section(folder: Path) -> Section:
    # Not read_documents: a sample may have ended at once and hold nothing, which is worth seeing.
    stories = [
        Story([_story_part(segment, folder) for segment in json.loads(line)["segments"]])
        for line in (folder / "documents.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    return Section("Interleaved stories", stories, "Text and pictures, sampled as one sequence.")


def _completion_section(path: Path) -> tuple[Section, Headline]:
    results = json.loads(path.read_text(encoding="utf-8"))
    rows = [[name, _share(value, n), n] for name, (value, n) in results["shares"].items()]
    table = Table(
        ["percent", "right", "read"], rows, "Percent with 95 % Wilson intervals.",
        highlight_rows=[0], bars=["right"],
    )  # fmt: skip
    tiles = [
        Tile(
            [load_image(path.parent / name) for name in item["pictures"].values()],
            list(item["pictures"]),
            item["caption"],
            good=item["right"],
        )
        for item in results["items"]
    ]
    name, (value, _) = next(iter(results["shares"].items()))
    section = Section(results["title"], [table, Gallery(tiles)], results["what"])
    return section, Headline(name, f"{value:.0f} %", results["title"].lower())


def _story_part(segment: dict[str, str], folder: Path) -> str | RGBImage:
    return segment["text"] if "text" in segment else load_image(folder / segment["image"])


def _benchmark_section(name: str, folder: Path) -> tuple[Section, Headline]:
    summary = json.loads((folder / "summary.json").read_text())
    records = read_records(folder / "items.jsonl").records
    # Pictures are rendered again from the benchmark's own seed.
    benchmark = build_benchmark(name, limit=limit_of(summary["version"]))
    items = browse(benchmark, records) if benchmark.version == summary["version"] else []
    section, tile = benchmark_section(_TITLES[name], benchmark.card.headline, summary, items)
    return section, replace(tile, label=tile.label.replace(summary["benchmark"], name, 1))


def _share(percent: float, n: int) -> Interval | float:
    interval = wilson_interval(percent / 100 * n, n)
    if isinstance(interval, Undefined):
        return percent
    return Interval(percent, 100 * interval.low, 100 * interval.high)

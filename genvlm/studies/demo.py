"""The demo: train the small model, judge, classify, draw, and put all of it on one page."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from genvlm.config.data import (
    EditsSource,
    ScenesSource,
    SequencesSource,
    StoriesSource,
    VendorName,
)
from genvlm.config.training import TrainConfig
from genvlm.data.corpus import build_corpus
from genvlm.data.images import save_image
from genvlm.data.tokenising import Tokenizers
from genvlm.errors import ConfigError
from genvlm.generation.interleaved import sample_documents
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import PretrainedModel, codebooks_of, load_pretrained
from genvlm.studies.completion import (
    Completion,
    continue_sequences,
    edit_scenes,
    inpaint_icons,
    write_completion,
)
from genvlm.studies.evaluations import CLASSES, DEMO_BENCHMARKS, PAIRS, evaluate, save_evaluation
from genvlm.studies.run_report import (
    COMPLETIONS_FOLDER,
    EVAL_FOLDER,
    SCENES_FOLDER,
    STORIES_FOLDER,
    build_report,
)
from genvlm.studies.samples import write_samples
from genvlm.studies.scene_generation import SceneGeneration, drawing_settings, generate_scenes
from genvlm.tokenization.document import Text
from genvlm.training.loop import Progress, train
from genvlm.training.run_folder import MODEL_FOLDER

_STORY_OPENINGS = ("first, the penguin", "first, the red heart", "first, the rocket")
_SHOWN = 24
_SHOWN_CLASSES = 10


def run_demo(
    config: TrainConfig,
    out: Path,
    *,
    progress: Progress,
    stage: Callable[[str], None],
    resume: bool = False,
    begun: Callable[[], None] = lambda: None,
    num_pictures: int = 200,
    eval_limit: int | None = None,
) -> Path:
    """Run everything into `out`; returns the report.

    Args:
        stage: told what begins.
        begun: called when the run folder is known to be this run's.
        num_pictures, eval_limit: smaller numbers make a quicker, less certain demo.
    """
    if config.syntax.max_side:
        raise ConfigError(
            "the demo reads and judges pictures of one size: set syntax.max_side to 0, or use "
            "genvlm train"
        )
    stage("training")
    train(config, out, resume=resume, progress=progress)  # a finished run takes no further step
    begun()
    pretrained = load_pretrained(out / MODEL_FOLDER)
    tokenizers = Tokenizers(text=pretrained.text_tokenizer, image=pretrained.image_tokenizer)
    corpus = build_corpus(config.data, tokenizers, out / "cache")
    known = corpus.codes
    stage("drawing held-out captions")
    generation = generate_scenes(
        pretrained, known, num=num_pictures, seed=config.seed, vendors=_vendors(config)
    )
    untrained = generate_scenes(
        _untrained(pretrained, config.seed),
        known,
        num=num_pictures,
        seed=config.seed,
        vendors=_vendors(config),
    )
    write_generation(generation, untrained, pretrained, known, out / SCENES_FOLDER)
    if any(isinstance(s, StoriesSource) for s in config.data.sources):
        stage("telling stories")
        stories = sample_documents(
            pretrained,
            [[Text(o)] for o in _STORY_OPENINGS],
            drawing_settings(pretrained),
            seed=config.seed,
        )
        write_samples(stories, pretrained, out / STORIES_FOLDER)
    for complete in _completions(config):
        stage(complete.__name__.replace("_", " "))
        completion = complete(
            pretrained, num=num_pictures, seed=config.seed, vendors=_vendors(config)
        )
        write_completion(completion, out / COMPLETIONS_FOLDER / complete.__name__)
    for name in _benchmarks(config):
        stage(f"evaluating {name}")
        # A picture against 100 classes costs as much as 100 pairs: the short demo shows a tenth of
        # them; `genvlm eval run emoji-classes` has all, and the shuffled-image control.
        classes, limit = name == CLASSES, eval_limit
        if classes and not _is_rich(config):
            limit = min(eval_limit or _SHOWN_CLASSES, _SHOWN_CLASSES)
        evaluation = evaluate(name, pretrained, limit=limit, shuffled=not classes)
        save_evaluation(evaluation, out / EVAL_FOLDER / name)
    stage("writing the report")
    return build_report(out)


def _completions(config: TrainConfig) -> list[Callable[..., Completion]]:
    """What a model of these data has learned to complete."""
    learned = {
        inpaint_icons: config.data.infill is not None and bool(_scenes(config)),
        edit_scenes: any(isinstance(s, EditsSource) for s in config.data.sources),
        continue_sequences: any(isinstance(s, SequencesSource) for s in config.data.sources),
    }
    return [complete for complete, yes in learned.items() if yes]


def _benchmarks(config: TrainConfig) -> tuple[str, ...]:
    """All, or those that a model trained on two-icon scenes can be asked."""
    return DEMO_BENCHMARKS if _is_rich(config) else ("scenes", PAIRS, CLASSES)


def _is_rich(config: TrainConfig) -> bool:
    return any(s.three or s.counts for s in _scenes(config))


def _vendors(config: TrainConfig) -> tuple[VendorName, ...]:
    """Of the scenes that the model has learned."""
    return tuple(sorted({v for s in _scenes(config) for v in s.vendors})) or ("noto",)


def _scenes(config: TrainConfig) -> list[ScenesSource]:
    return [s for s in config.data.sources if isinstance(s, ScenesSource)]


def write_generation(
    generation: SceneGeneration,
    untrained: SceneGeneration,
    pretrained: PretrainedModel,
    known: np.ndarray,
    folder: Path,
) -> None:
    """`results.json` and the first pictures, each with the training picture nearest in codes."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = pretrained.image_tokenizer
    items = []
    shown = zip(
        generation.scenes, generation.codes, generation.images, generation.verdicts, strict=True
    )
    for number, (scene, codes, image, (both, relation)) in enumerate(list(shown)[:_SHOWN]):
        nearest = int((known == codes).sum((1, 2)).argmax())
        names = f"{number:03d}.png", f"{number:03d}-nearest.png"
        save_image(image, folder / names[0])
        save_image(tokenizer.decode(known[nearest][None])[0], folder / names[1])
        items.append(
            {
                "caption": scene.caption,
                "image": names[0],
                "nearest": names[1],
                "both_icons": both,
                "relation": relation,
            }
        )
    shares = {
        "generated": generation.generated,
        "control: captions shuffled": generation.shuffled,
        "control: untrained model": untrained.generated,
        "real pictures after the tokenizer": generation.reconstructed,
        "real pictures": generation.real,
    }
    settings = drawing_settings(pretrained)
    results = {
        "n": generation.generated.n, "shares": shares, "copied": generation.copied,
        "temperature": settings.temperature, "guidance_scale": settings.guidance_scale,
        "items": items,
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results, indent=1))


def _untrained(pretrained: PretrainedModel, seed: int) -> PretrainedModel:
    """The same model before training."""
    model = build_transformer(
        pretrained.model.config,
        pretrained.vocabulary.size,
        seed=seed,
        codebooks=codebooks_of(pretrained.image_tokenizer, pretrained.video_tokenizer),
    )
    return replace(pretrained, model=model.eval())

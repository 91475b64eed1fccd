"""`genvlm bench loader`: how long a training step waits for its batch."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from genvlm.config.assets import resolve_path
from genvlm.config.data import ScenesSource
from genvlm.config.schema import load_config
from genvlm.config.training import TrainConfig
from genvlm.data.batches import BatchSource
from genvlm.data.corpus import Corpus, build_corpus
from genvlm.data.images import load_image, save_image
from genvlm.data.sharding import Tokenizers
from genvlm.data.shards import map_shard
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import build_vocabulary
from genvlm.studies.bench.report import Result, Row, time_row
from genvlm.studies.bench.timing import Settings, ratio_of_medians, time_interleaved
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer
from genvlm.tokenization.text import load_text_tokenizer
from genvlm.training.engine import Engine
from genvlm.training.objectives.next_token import NextTokenObjective, modality_weights

_CONFIG = "configs/demo/emoji.yaml"
_METHOD = (
    "Wait: `BatchSource.batch`, which reads codes, tokenizes texts and pads, beside the "
    "`Engine.train_step` that follows it, both of `configs/demo/emoji.yaml` with fewer scenes; "
    "each repetition takes the next batch. The ratio is step over wait. Codes: what the corpus "
    "keeps of 64 pictures, read from its file, beside decoding the 64 PNG files. That is not the "
    "same work: the codes were computed once, and pixels would still have to be encoded."
)


def run(settings: Settings) -> Result:
    """Wait for data as a share of a step; codes from the cache beside PNG decoding."""
    torch.set_num_threads(settings.threads)
    config = load_config(TrainConfig, resolve_path(_CONFIG))
    num = 24 if settings.quick else 256
    data = replace(config.data, sources=(ScenesSource(num=num),))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings.say("encoding pictures")
        image = load_image_tokenizer(resolve_path(config.tokenizers.image))
        source = _source(replace(config, data=data), image, folder)
        settings.say("steps and batches")
        rows = [_wait(config, source, settings), _codes(image, source.corpus, folder, settings)]
    return Result(
        bench="loader",
        shape=f"{_CONFIG}: {config.global_batch_size} documents a step, {num} scenes",
        method=_METHOD,
        settings=settings,
        rows=rows,
        facts={"wait, share of a step": 1 / (rows[0].ratio or 1)},
    )


def _source(config: TrainConfig, image: ImageTokenizer, cache: Path) -> BatchSource:
    text = load_text_tokenizer(resolve_path(config.tokenizers.text))
    return BatchSource(
        corpus=build_corpus(config.data, Tokenizers(text=text, image=image), cache),
        config=config.data,
        vocabulary=build_vocabulary(text, image),
        text_tokenizer=text,
        grid=image.grid,
        max_tokens=config.model.context_length,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        modality_weights=modality_weights(
            config.objective.text_weight, config.objective.image_weight
        ),
    )


def _wait(config: TrainConfig, source: BatchSource, settings: Settings) -> Row:
    model = build_transformer(config.model, source.vocabulary.size, seed=0)
    objective = NextTokenObjective(model, config.objective.z_loss_weight)
    engine = Engine(objective, config.optimizer, num_steps=10**6, precision="float32")
    waits, steps = [], []
    for step in range(settings.num + 2):
        begun = time.perf_counter()
        batches = source.batch(step)
        waited = time.perf_counter()
        engine.train_step(step, batches)
        waits.append(waited - begun)
        steps.append(time.perf_counter() - waited)
    # The first two warm up: buffers, and the order of the epoch.
    wait, work = np.array(waits[2:]), np.array(steps[2:])
    return time_row(
        "wait for a batch", "the step it is for", float(np.median(wait)), float(np.median(work)),
        ratio_of_medians(work, wait), settings, bar=100.0,
        note=f"waiting takes {100 * np.median(wait) / np.median(work):.2f} % of a step",
    )  # fmt: skip


def _codes(image: ImageTokenizer, corpus: Corpus, folder: Path, settings: Settings) -> Row:
    num = 8 if settings.quick else 64
    paths = [folder / f"{i}.png" for i in range(num)]
    for picture, path in zip(image.decode(corpus.codes[:num]), paths, strict=True):
        save_image(picture, path)
    shard = next(folder.glob("tokens-*/shard-*"))

    def read_codes() -> object:
        mapped = map_shard(shard)
        return [mapped.picture(i).copy() for i in range(num)]

    tasks: dict[str, Callable[[], object]] = {
        "codes": read_codes, "png": lambda: [load_image(path) for path in paths],
    }  # fmt: skip
    seconds = time_interleaved(tasks, settings.num)
    return time_row(
        f"codes of {num} pictures", "decoding their PNG files",
        float(np.median(seconds["codes"])), float(np.median(seconds["png"])),
        ratio_of_medians(seconds["png"], seconds["codes"]), settings, note="not the same work",
    )  # fmt: skip

"""Pictures for a frozen language model: `examples/caption_with_a_language_model.py LANGUAGE OUT`.

LANGUAGE is a model folder of genvlm, such as `runs/demo/model`, whose text half is used, or one of
transformers with a causal language model and its tokenizer. A projector from the shipped image
tokenizer's patches is trained on scenes; then it captions one, and scores that caption and the
swapped one.
"""

import sys
from pathlib import Path

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.data import ScenesSource
from genvlm.config.image_encoder import VQPatchesConfig
from genvlm.config.projector import (
    ForeignLanguageConfig,
    OwnLanguageConfig,
    ProjectorConfig,
    ProjectorTrainConfig,
)
from genvlm.config.training import OptimizerConfig
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.scoring.open import open_answerer, open_scorer
from genvlm.scoring.protocols import Grid, Question
from genvlm.training.projector import train_projector


def main(language: str, out: str, num_steps: int = 1000, num_scenes: int = 20000) -> Path:
    """Train, print a caption and two scores; returns the model folder."""
    ours = (Path(language) / "config.yaml").is_file()
    config = ProjectorTrainConfig(
        model=ProjectorConfig(
            image_encoder=VQPatchesConfig(),
            language_model=(OwnLanguageConfig if ours else ForeignLanguageConfig)(path=language),
        ),
        data=CaptionedDataConfig(sources=(ScenesSource(num=num_scenes),)),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=min(100, num_steps)),
        num_steps=num_steps,
        global_batch_size=16,
        micro_batch_size=16,
    )
    model = train_projector(config, Path(out))

    (scene,) = sample_scenes(1, seed=1)
    picture = render_scene(scene, "noto")
    question = Question(item_id="scene", images=[picture], prompt="")
    print("it says:", open_answerer(model).answer([question])[0].raw_text)
    texts = [scene.caption, scene.swapped.caption]
    (scores,) = open_scorer(model).score([Grid(item_id="scene", images=[picture], texts=texts)])
    for text, value in zip(texts, scores.values[0], strict=True):
        print(f"log p = {value:8.2f} nats  {text}")
    return model


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4])))

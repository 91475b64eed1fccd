"""FLAVA on your own captions: `python examples/train_a_masked_model.py FOLDER OUT`.

FOLDER holds captions.jsonl, a line a picture: {"id": "1", "image": "1.png", "text": "a red bar"}.
"""

import sys
from pathlib import Path

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.masked import MaskedConfig, MaskedTrainConfig
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.config.training import OptimizerConfig
from genvlm.data.images import load_image
from genvlm.models.auxiliary.masked import load_masked
from genvlm.training.masked import train_masked


def main(folder: str, out: str, num_steps: int = 200, batch_size: int = 8) -> Path:
    """Train, and print how likely each of the first pictures matches the word "red"."""
    config = MaskedTrainConfig(
        model=MaskedConfig(
            image_encoder=SmallImageEncoderConfig(hidden_size=64, num_layers=2, num_heads=2),
            text_encoder=SmallTextEncoderConfig(hidden_size=64, num_layers=2, num_heads=2),
            hidden_size=64,
            num_layers=1,
            num_heads=2,
            embedding_dim=32,
        ),
        data=CaptionedDataConfig(sources=(CaptionsSource(path=folder),)),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        num_steps=num_steps,
        global_batch_size=batch_size,
        micro_batch_size=batch_size,
    )
    model = load_masked(train_masked(config, Path(out)))
    for path in sorted(Path(folder).glob("*.png"))[:4]:
        print(path.name, round(float(model.match(load_image(path), ["red"]).sigmoid()), 3))
    return Path(out) / "model"


if __name__ == "__main__":
    main(*sys.argv[1:3])

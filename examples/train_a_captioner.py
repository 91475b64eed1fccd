"""CoCa on your own captions: `python examples/train_a_captioner.py FOLDER OUT`.

FOLDER holds captions.jsonl, a line a picture: {"id": "1", "image": "1.png", "text": "a red bar"}.
"""

import sys
from pathlib import Path

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.coca import CaptionDecoderConfig, CoCaConfig, CoCaTrainConfig
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.training import OptimizerConfig
from genvlm.data.images import load_image
from genvlm.models.auxiliary.coca import load_coca
from genvlm.training.coca import train_coca


def main(folder: str, out: str, num_steps: int = 200, batch_size: int = 8) -> Path:
    """Train, and print log p("red" | picture) of the first pictures, in nats."""
    config = CoCaTrainConfig(
        model=CoCaConfig(
            image_encoder=SmallImageEncoderConfig(hidden_size=64, num_layers=2, num_heads=2),
            decoder=CaptionDecoderConfig(
                hidden_size=64, num_unimodal_layers=1, num_multimodal_layers=1, num_heads=2
            ),
            embedding_dim=32,
        ),
        data=CaptionedDataConfig(sources=(CaptionsSource(path=folder),)),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        num_steps=num_steps,
        global_batch_size=batch_size,
        micro_batch_size=batch_size,
    )
    model = load_coca(train_coca(config, Path(out)))
    for path in sorted(Path(folder).glob("*.png"))[:4]:
        log_probs, _ = model.score_texts(load_image(path), ["red"])
        print(path.name, round(float(log_probs.sum()), 3))
    return Path(out) / "model"


if __name__ == "__main__":
    main(*sys.argv[1:3])

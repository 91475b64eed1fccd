"""CLIP on your own captions: `python examples/train_a_clip.py FOLDER OUT`.

FOLDER holds captions.jsonl, a line a picture: {"id": "1", "image": "1.png", "text": "a red bar"}.
"""

import sys
from pathlib import Path

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.contrastive import ContrastiveConfig, ContrastiveTrainConfig
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.config.training import OptimizerConfig
from genvlm.data.images import load_image
from genvlm.models.auxiliary.contrastive import load_contrastive
from genvlm.training.contrastive import train_contrastive


def main(folder: str, out: str, num_steps: int = 200, batch_size: int = 8) -> Path:
    """Train, and print the cosine of each of the first pictures with the word "red"."""
    config = ContrastiveTrainConfig(
        model=ContrastiveConfig(
            image_encoder=SmallImageEncoderConfig(hidden_size=64, num_layers=2, num_heads=2),
            text_encoder=SmallTextEncoderConfig(hidden_size=64, num_layers=2, num_heads=2),
            embedding_dim=32,
            loss="infonce",
        ),
        data=CaptionedDataConfig(sources=(CaptionsSource(path=folder),)),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        num_steps=num_steps,
        global_batch_size=batch_size,
        micro_batch_size=batch_size,
    )
    model = load_contrastive(train_contrastive(config, Path(out)))
    pictures = sorted(Path(folder).glob("*.png"))[:4]
    cosines = model.embed_images([load_image(p) for p in pictures]) @ model.embed_texts(["red"]).T
    for path, cosine in zip(pictures, cosines[:, 0].tolist(), strict=True):
        print(path.name, round(cosine, 3))
    return Path(out) / "model"


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""Train on a folder of captioned pictures: `python examples/train_on_your_folder.py FOLDER RUN`.

FOLDER holds pictures and a `captions.jsonl` of {"image", "text"} lines. The model is small; raise
`hidden_size`, `num_layers` and `num_steps` for more than a trial.
"""

import sys
from pathlib import Path

from genvlm.config.data import CaptionsSource, DataConfig
from genvlm.config.training import OptimizerConfig, TrainConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.training.loop import train


def main(folder: str, run: str, num_steps: int = 200) -> Path:
    """Train and return the model folder."""
    config = TrainConfig(
        model=TransformerConfig(
            hidden_size=64,
            num_layers=2,
            num_heads=2,
            num_kv_heads=2,
            head_dim=32,
            intermediate_size=160,
            context_length=256,
        ),
        data=DataConfig(sources=(CaptionsSource(path=folder),)),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=10),
        num_steps=num_steps,
        global_batch_size=4,
        micro_batch_size=4,
    )
    return train(config, Path(run))


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))

"""What tests of contrastive training run in processes of their own.

Arguments: CONFIG OUT. The first process writes what it found into OUT.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from genvlm.config.contrastive import ContrastiveTrainConfig, MixtureTokensConfig
from genvlm.config.schema import load_config
from genvlm.errors import TrainingError
from genvlm.testing.tiny_auxiliary import tiny_coca_train_config
from genvlm.training.caption_run import prepare_captions
from genvlm.training.coca import coca_run
from genvlm.training.contrastive import contrastive_run
from genvlm.training.engine import Engine
from genvlm.training.gathered import gather_rows
from genvlm.training.launch import leave


def note_gradient(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Of the first step alone, as the optimizer takes it."""
    if not gradient:
        for group in optimizer.param_groups:
            gradient.extend(x for p in group["params"] for x in p.grad.flatten().tolist())


gradient: list[float] = []
register_optimizer_step_pre_hook(note_gradient)
given = load_config(ContrastiveTrainConfig, Path(sys.argv[1]))
found: dict[str, object] = {}
two = MixtureTokensConfig(num_tokens=2, num_heads=2)
with tempfile.TemporaryDirectory() as folder:
    captioner = replace(
        tiny_coca_train_config(Path(folder)), data=given.data, global_batch_size=4,
        micro_batch_size=given.micro_batch_size,
    )  # fmt: skip
    of_captioner = prepare_captions(captioner, coca_run(captioner), None)
for name, loss, tokens in (
    ("infonce", "infonce", None), ("sigmoid", "sigmoid", None), ("Llip", "infonce", two),
    ("CoCa", "infonce", None),
):  # fmt: skip
    model = replace(given.model, loss=loss, mixture_tokens=tokens)
    config = replace(given, model=model)
    source, objective = prepare_captions(config, contrastive_run(config), None)
    if name == "CoCa":
        source, objective = of_captioner
    gradient.clear()
    engine = Engine(
        objective, config.optimizer, num_steps=3, precision="float32", grad_accum_steps=1,
        seed=0, max_skipped_steps=1,
    )  # fmt: skip
    steps = []
    for step in range(3):
        rank, num_ranks = engine.rank, engine.num_processes
        result = engine.train_step(step, source.batch(step, rank=rank, num_ranks=num_ranks))
        steps.append([result.terms[loss], result.counts[loss], result.grad_norm])
    found[name] = {
        "steps": steps, "processes": engine.num_processes, "gradient": gradient.copy(),
    }  # fmt: skip
try:
    gather_rows(torch.zeros(1 + engine.rank, 2))
except TrainingError as error:
    found["unequal"] = str(error)
if engine.is_main:
    Path(sys.argv[2]).write_text(json.dumps(found))
leave(0)

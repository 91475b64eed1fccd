"""Training of image and video tokenizers in one process: resuming, steps, log and checkpoints."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANTrainConfig
from genvlm.config.video_tokenizer import VideoVQTrainConfig
from genvlm.training.checkpoint import newest_valid, save_checkpoint
from genvlm.training.run_folder import CHECKPOINTS, LOG_FILE, cut_log
from genvlm.training.stopping import StoppedError, stop_signals

_LOG_EVERY = 20


class TokenizerState(Protocol):
    """Everything that a checkpoint holds."""

    step: int

    def state_dict(self) -> dict[str, object]:
        """Tensors and plain numbers only, so that it loads with weights_only."""

    def load(self, folder: Path) -> None:
        """Continue from a verified checkpoint folder."""


def resume_state(
    state: TokenizerState, out: Path, resume: bool, say: Callable[[str], None]
) -> None:
    """Load the newest valid checkpoint of `out` where asked to; the log ends where it stands."""
    checkpoints = out / CHECKPOINTS
    if resume and (folder := newest_valid(checkpoints, say)):
        state.load(folder)
        say(f"resumed at step {state.step}")
    elif resume:
        say(f"{checkpoints} holds no checkpoint: beginning at step 0")
    cut_log(out / LOG_FILE, state.step, say)


def run_tokenizer_steps(
    state: TokenizerState,
    config: VQGANTrainConfig | VideoVQTrainConfig,
    out: Path,
    train_step: Callable[[torch.Generator], Mapping[str, float | Tensor]],
    on_step: Callable[[int, dict[str, float]], None],
) -> None:
    """All steps that are left, with log and checkpoints.

    Args:
        train_step: one step on a batch that it draws by the generator; returns what is logged.

    Raises:
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    start = time.monotonic()
    with (out / LOG_FILE).open("a") as log, stop_signals() as stopped:
        while state.step < config.num_steps:
            # Keyed by the step: a resumed run sees the batches that it would have seen.
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + state.step)
            terms = train_step(generator)
            state.step += 1
            last = state.step == config.num_steps
            if state.step % _LOG_EVERY == 0 or last:
                logged = {name: float(value) for name, value in terms.items()}
                logged |= {"step": state.step, "seconds": round(time.monotonic() - start, 1)}
                log.write(json.dumps(logged) + "\n")
                log.flush()
                on_step(state.step, logged)
            stop = stopped[0] if stopped else None
            if state.step % config.checkpoint_every == 0 or last or stop:
                save_checkpoint(
                    out / CHECKPOINTS,
                    state.step,
                    lambda folder: torch.save(state.state_dict(), folder / "state.pt"),
                )
            if stop and not last:
                raise StoppedError(state.step, stop)

"""How processes of a run are started, and how they end."""

import os
import sys
from typing import NoReturn

from genvlm.errors import TrainingError

# What `accelerate launch` can switch on beside us, and where the run's YAML says it.
_REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP: genvlm shards with DeepSpeed; name a JSON by `deepspeed`",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM, which genvlm does not use",
}


def check_launcher(*, uses_deepspeed: bool) -> None:
    """Raise TrainingError where `accelerate launch` was told what the run's YAML does not say."""
    refused = dict(_REFUSED)
    if not uses_deepspeed:
        refused["ACCELERATE_USE_DEEPSPEED"] = "DeepSpeed: name a JSON by `deepspeed`"
    for variable, said in refused.items():
        if os.environ.get(variable, "false").lower() == "true":
            raise TrainingError(f"`accelerate launch` was told to use {said}, or start without it")
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise TrainingError(
            f"`accelerate launch` was told to compile with {backend}: set `compile` of the run, "
            f"and start without --dynamo_backend"
        )


def check_world(started: int, *, seen: int, alone: bool) -> None:
    """Raise TrainingError where processes that were started together would train apart."""
    if seen != started or (started > 1 and alone):
        raise TrainingError(
            f"{started} processes were started, and each sees {seen}, or trains alone: start them "
            f"with `accelerate launch` or torchrun"
        )


def check_alone(what: str) -> None:
    """Raise TrainingError where several processes were started for what one does alone.

    Args:
        what: such as "an image tokenizer".
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        raise TrainingError(
            f"{what} trains in one process, and {world} were started: start it without a launcher"
        )


def leave(code: int) -> NoReturn:
    """End this process.

    One that has trained together with others ends at once, with everything flushed: about one in
    eight such processes aborts when the interpreter is taken down ("terminate called without an
    active exception"), after all work is done, which would turn a good run into a failed one.
    Threads of the process group then ask for an interpreter that is no longer there; destroying
    the group does not join them. What is skipped is the taking down alone: files are written whole
    and flushed where they are written, and locks die with the process.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        sys.exit(code)
    if not torch.distributed.is_initialized():
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

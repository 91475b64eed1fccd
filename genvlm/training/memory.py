"""The memory of a run, compared with what there is before it starts."""

import os
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn

from genvlm.config.assets import resolve_path
from genvlm.config.deepspeed import offloads, read_deepspeed, zero_stage
from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.schema import load_config
from genvlm.config.training import RunConfig, TrainConfig
from genvlm.errors import TrainingError
from genvlm.models.pretrained import vocabulary_size
from genvlm.tokenization.image import CONFIG_FILE, load_image_tokenizer
from genvlm.tokenization.text import load_text_tokenizer
from genvlm.tokenization.video import load_video_tokenizer
from genvlm.training.footprint import Numbers
from genvlm.training.hardware import GIB, Memory, machine_memory, processes_here
from genvlm.training.plan import (
    STAGES,
    DeviceMemory,
    Stage,
    StateMemory,
    Work,
    plan_memory,
    plan_states,
)

Say = Callable[[str], None]


def work_of(config: TrainConfig) -> Work:
    """What one process of a run does at a time; of the tokenizers only what sizes need is read."""
    text = load_text_tokenizer(resolve_path(config.tokenizers.text))
    folder = resolve_path(config.tokenizers.image)
    image = load_config(VQGANConfig, folder / CONFIG_FILE)
    return Work(
        model=config.model,
        vocab_size=vocabulary_size(
            text.size,
            config.tokenizers.num_codes or image.codebook_size,
            image,
            config.syntax,
            _own_video_codes(config),
        ),
        micro_batch_size=config.micro_batch_size,
        row_length=config.model.context_length,
        precision=config.precision,
        activation_checkpointing=config.activation_checkpointing,
        packed=config.data.packing,
        ema=config.ema_decay is not None,
        optimizer=config.optimizer.kind,
    )


def _own_video_codes(config: TrainConfig) -> int:
    """Ids of video codes that are none of image codes."""
    if config.tokenizers.video is None:
        return 0
    video = load_video_tokenizer(resolve_path(config.tokenizers.video))
    image = load_image_tokenizer(resolve_path(config.tokenizers.image))
    if video.codebook_fingerprint == image.codebook_fingerprint:
        return 0
    return config.tokenizers.num_codes or video.config.image.codebook_size


def check_memory(config: TrainConfig, say: Say) -> None:
    """Before anything is built. Says so where full rows may need more than is free now.

    Raises:
        TrainingError: not even parameters, gradients and optimizer fit.
    """
    stage, num_processes = _sharding(config)
    if stage is not None:
        needed = plan_memory(work_of(config), stage, num_processes)
        check_fits(needed, device_memory(), num_processes=num_processes, say=say)


def check_model_memory(config: RunConfig, model: nn.Module) -> None:
    """The same of a model that is built, and whose activations nobody plans.

    Raises:
        TrainingError: not even parameters, gradients and optimizer fit.
    """
    stage, num_processes = _sharding(config)
    if stage is None:
        return
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    numbers: Numbers = "bfloat16" if stage and config.precision == "bfloat16" else "float32"
    needed = plan_states(
        trained, trained if config.optimizer.kind == "muon" else 2 * trained, numbers,
        stage=stage, num_devices=num_processes, ema=config.ema_decay is not None,
    )  # fmt: skip
    check_fits(needed, device_memory(), num_processes=num_processes, say=lambda message: None)


def check_fits(
    needed: StateMemory, there: tuple[Memory, str] | None, *, num_processes: int, say: Say
) -> None:
    """Compare.

    Args:
        needed: by each process.
        there: what each process has for itself, and whose it is; None: nobody knows.

    Raises:
        TrainingError: not even parameters, gradients and optimizer fit.
    """
    if there is None:
        return
    memory, where = there
    parts = ", ".join(f"{name} {_gib(size)}" for name, size in asdict(needed).items() if size)
    if needed.states > memory.total:
        raise TrainingError(
            f"this run needs at least {_gib(needed.states)} in each of {num_processes} "
            f"process(es), and {where} has {_gib(memory.total)} for each ({parts}): shard over "
            f"more processes (deepspeed: configs/deepspeed/zero3.json), or train a smaller model"
        )
    if isinstance(needed, DeviceMemory) and needed.total > memory.available:
        say(
            f"warning: with full rows this run may need {_gib(needed.total)} in each process, and "
            f"{where} has {_gib(memory.available)} free for each ({parts}): lower "
            f"micro_batch_size, set activation_checkpointing, or raise the ZeRO stage"
        )


def device_memory() -> tuple[Memory, str] | None:
    """What each process has of the device that it trains on, and the device's name."""
    if torch.cuda.is_available():
        number = int(os.environ.get("LOCAL_RANK", "0"))
        available, total = torch.cuda.mem_get_info(number)
        return Memory(total, available), torch.cuda.get_device_name(number)
    memory = machine_memory()
    if memory is None:
        return None
    shared = processes_here()
    return Memory(memory.total // shared, memory.available // shared), "this machine"


def _sharding(config: RunConfig) -> tuple[Stage | None, int]:
    """ZeRO's stage, None where something is offloaded, and the number of processes."""
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if config.deepspeed is None:
        return 0, num_processes
    content = read_deepspeed(resolve_path(config.deepspeed), config, num_processes)
    if offloads(content):
        return None, num_processes
    return STAGES[zero_stage(content)], num_processes


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"

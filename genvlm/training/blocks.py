"""What a run may do to the blocks of any model: keep less for gradients, compile.

It is done from outside, so that models know nothing of it, and in place, so that names of weights
stay.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from genvlm.errors import ConfigError


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """Members of the outermost lists that are named blocks: `blocks`, `transformer_blocks`, ...

    Raises:
        ConfigError: there are none.
    """
    found: dict[str, nn.Module] = {}
    for name, child in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if not inside and isinstance(child, nn.ModuleList) and name.endswith("blocks"):
            found |= {f"{name}.{number}": block for number, block in enumerate(child)}
    if not found:
        raise ConfigError(
            "this model has no lists of blocks: set activation_checkpointing and compile to false"
        )
    return list(found.values())


def checkpoint_blocks(module: nn.Module) -> None:
    """Blocks keep only what they are given, and compute again in the backward pass.

    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".) Dropout draws the same
    numbers both times.
    """
    for block in find_blocks(module):
        block.forward = partial(_checkpointed, block.forward)


def compile_blocks(module: nn.Module) -> None:
    """Blocks run by torch.compile: equal ones are compiled once, at their first call."""
    for block in find_blocks(module):
        block.compile()


def _checkpointed(forward: Any, *arguments: Any, **named: Any) -> Any:
    return checkpoint(forward, *arguments, use_reentrant=False, **named)

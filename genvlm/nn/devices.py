"""Where modules compute."""

from typing import TypeVar

import torch
from torch import nn

from genvlm.errors import ConfigError

Module = TypeVar("Module", bound=nn.Module)


def move_to(module: Module, device: str | torch.device) -> Module:
    """The module on a device such as cpu or cuda:0. Raises ConfigError: there is no such one."""
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("meta tensors hold no numbers")
        return module.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"no computing on device {str(device)!r}: {reason}") from None

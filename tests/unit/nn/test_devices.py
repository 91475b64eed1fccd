import pytest
import torch
from torch import nn

from genvlm.errors import ConfigError
from genvlm.nn.devices import move_to


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_there_is_not_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=f"no computing on device '{device}'"):
        move_to(nn.Linear(2, 2), device)


def test_the_module_itself_comes_back() -> None:
    module = nn.Linear(2, 2)
    assert move_to(module, "cpu") is module
    assert next(module.parameters()).device == torch.device("cpu")

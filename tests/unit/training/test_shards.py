"""Slices of ZeRO 3: the last ones are longer than what is left of a parameter."""

import torch
from torch import Tensor, nn

from genvlm.training.zero import ZeroShards


class Slices(ZeroShards):
    """One parameter of seven numbers over three processes, without DeepSpeed."""

    def __init__(self, rank: int, found: Tensor) -> None:
        self.kept = found
        super().__init__(nn.Linear(7, 1, bias=False), stage=3, rank=rank)

    def _slice(self, parameter: object) -> Tensor:
        return self.kept

    def _set_slice(self, parameter: object, value: Tensor) -> None:
        self.kept = value


def test_what_fills_up_the_last_slice_is_no_weight() -> None:
    found = torch.tensor([1.0, float("nan"), float("nan")])
    for rank, expected in ((0, found), (2, torch.tensor([1.0, 0.0, 0.0]))):
        local = Slices(rank, found).local()["weight"]
        torch.testing.assert_close(local, expected, equal_nan=True, atol=0, rtol=0)


def test_whole_tensors_are_split_and_filled_up_with_zeros() -> None:
    whole = {"weight": torch.arange(1.0, 8.0).view(1, 7)}
    parts = [Slices(rank, torch.ones(3)).split(whole)["weight"].tolist() for rank in range(3)]
    assert parts == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]

"""The moving average of weights, against a loop by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from genvlm.errors import CheckpointError
from genvlm.training.ema import WeightAverage
from genvlm.training.shards import WholeParameters


def model() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network[0].bias.requires_grad_(False)
    return network


def walk(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_averages_equal_a_loop_by_hand(decay: float) -> None:
    network = model()
    expected = {n: p.detach().double().clone() for n, p in network.named_parameters()}
    average = WeightAverage(WholeParameters(network), decay)
    for n in range(30):
        walk(network, n)
        average.update()
        kept = min(decay, (1 + n) / (10 + n))
        for name, parameter in network.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * parameter.detach().double()
    averages = average.gather()
    assert averages.keys() == {n for n, p in network.named_parameters() if p.requires_grad}
    for name, averaged in averages.items():
        torch.testing.assert_close(averaged.double(), expected[name], atol=1e-5, rtol=1e-5)


def test_the_first_weights_are_soon_forgotten() -> None:
    """Without a warm-up, 0.999^20 = 98 % of an average would be the initial weights."""
    network = model()
    average = WeightAverage(WholeParameters(network), 0.999)
    first = network[2].weight.detach().clone()
    with torch.no_grad():
        network[2].weight += 1
    for _ in range(20):
        average.update()
    assert (average.gather()["2.weight"] - first).min() > 0.95


def test_the_average_of_bfloat16_weights_is_kept_in_float32() -> None:
    network = model().bfloat16()
    average = WeightAverage(WholeParameters(network), 0.99)
    with torch.no_grad():
        network[2].weight += 0.5
    for _ in range(40):
        average.update()
    averaged = average.gather()["2.weight"]
    assert not torch.equal(averaged, averaged.bfloat16().float())


def test_it_goes_on_from_a_checkpoint_bitwise(tmp_path: Path) -> None:
    whole, parts = model(), model()
    a, b = WeightAverage(WholeParameters(whole), 0.99), WeightAverage(WholeParameters(parts), 0.99)
    for n in range(7):
        walk(whole, n)
        a.update()
    for n in range(3):
        walk(parts, n)
        b.update()
    b.save(tmp_path)
    resumed = WeightAverage(WholeParameters(parts), 0.99)
    resumed.load(tmp_path)
    assert resumed.num_updates == 3
    for n in range(3, 7):
        walk(parts, n)
        resumed.update()
    one, two = a.gather(), resumed.gather()
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_the_average_of_another_model_is_refused(tmp_path: Path) -> None:
    WeightAverage(WholeParameters(nn.Linear(2, 2)), 0.9).save(tmp_path)
    with pytest.raises(CheckpointError, match="is of another model"):
        WeightAverage(WholeParameters(nn.Linear(2, 3)), 0.9).load(tmp_path)

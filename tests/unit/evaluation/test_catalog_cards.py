"""Every benchmark of the catalog has its card, and every card loads."""

import pytest

from genvlm.config.assets import asset_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.catalog import FILE_BENCHMARKS, find_benchmark

CARDS = sorted(path.stem for path in asset_path("eval/benchmarks").glob("*.yaml"))


@pytest.mark.parametrize("name", CARDS)
def test_every_card_loads_and_says_what_is_known(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.artefacts
    assert card.licence
    assert card.description
    assert card.headline in card.metrics


@pytest.mark.parametrize("name", FILE_BENCHMARKS)
def test_every_benchmark_of_the_catalog_has_a_card(name: str) -> None:
    of_parts = [f"{name}-{part}" for part in FILE_BENCHMARKS[name].parts]
    assert name in CARDS or any(card in CARDS for card in of_parts)


@pytest.mark.parametrize("name", FILE_BENCHMARKS)
def test_every_benchmark_is_scored_or_asked(name: str) -> None:
    entry = FILE_BENCHMARKS[name]
    assert entry.build is not None or entry.ask is not None
    for part in entry.parts:
        assert find_benchmark(f"{name}/{part}") == (entry, part)


def test_a_benchmark_that_is_not_there_is_named() -> None:
    with pytest.raises(EvaluationError, match=r"no benchmark 'chairs'.*chair"):
        find_benchmark("chairs")
    with pytest.raises(EvaluationError, match="chair has no part 'x': it has none"):
        find_benchmark("chair/x")

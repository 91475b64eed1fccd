"""Text that was kept for testing: what it is, and nats a piece of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from genvlm.config.data import ShardsSource, TextsSource
from genvlm.config.schema import load_config
from genvlm.config.training import TrainConfig
from genvlm.errors import ConfigError
from genvlm.scoring.autoregressive import Likelihood
from genvlm.studies.language import (
    held_out_texts,
    loss_table,
    measure_language,
    training_texts,
)
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained

ROOT = Path(__file__).resolve().parents[3]
TRAINING = [caption for caption, _ in tiny_pairs()]


def test_no_text_kept_for_testing_is_in_the_recipe() -> None:
    config = load_config(TrainConfig, ROOT / "configs/train/language.yaml")
    scenes, *others = config.data.sources
    assert isinstance(scenes, TextsSource)
    fewer = replace(scenes, of=replace(scenes.of, num=1000))
    training = set(training_texts([fewer, *others]))
    sets = held_out_texts()
    assert len(training) > 8000
    assert [len(texts) > 200 for texts in sets.values()] == [True, True, True]
    for name, texts in sets.items():
        assert not training & set(texts), name


def test_every_piece_and_the_end_count_once() -> None:
    pretrained, texts = tiny_pretrained(), ["a red bar", "a page"]
    (row,) = measure_language(pretrained, TRAINING, {"mine": texts})
    assert row.num_pieces == sum(len(pretrained.text_tokenizer.encode(t)) + 1 for t in texts)
    scored = Likelihood(pretrained).score_text_given_image([(None, t) for t in texts])
    nats = -sum(one.total for one in scored) / row.num_pieces
    assert row.nats_per_piece["model"] == pytest.approx(nats)


def test_longer_histories_know_the_training_texts_better() -> None:
    (row,) = measure_language(tiny_pretrained(), TRAINING, {"seen": TRAINING})
    nats = row.nats_per_piece
    assert nats["trigram"] < nats["bigram"] < nats["unigram"]
    table = loss_table([row])
    assert f"| seen | {len(TRAINING)} | {row.num_pieces} | {nats['model']:.3f} |" in table


def test_shards_are_refused_since_their_texts_are_those_of_other_sources() -> None:
    with pytest.raises(ConfigError, match=r"data\.sources\.0 is of shards"):
        training_texts([ShardsSource(path="tokens")])

"""Scorers and answers of projectors: batches, bad numbers, and what is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.errors import ConfigError, EvaluationError, TokenError
from genvlm.models.auxiliary.language_model import Prefix
from genvlm.models.auxiliary.projector import ProjectorModel
from genvlm.scoring import projector as module
from genvlm.scoring.projector import (
    ProjectorAnswerer,
    ProjectorLikelihoodScorer,
    ProjectorPYesScorer,
)
from genvlm.scoring.protocols import Grid, Question
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_projector import tiny_projector
from genvlm.tokenization.image_slots import parse_prompt

TEXTS, IMAGES = ([pair[i] for pair in tiny_pairs()] for i in (0, 1))


@pytest.fixture
def model(tmp_path: Path) -> ProjectorModel:
    return tiny_projector(tmp_path)


def test_texts_in_many_small_batches_score_as_in_one(
    model: ProjectorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = ProjectorLikelihoodScorer(model)
    grid = Grid(item_id="a", images=IMAGES[:2], texts=[*TEXTS, "Yes", "a red bar"])
    (whole,) = scorer.score([grid])
    for name in ("_TOKENS_PER_BATCH", "_LOGITS_PER_BATCH"):
        monkeypatch.setattr(module, name, 1)
        (one_by_one,) = scorer.score([grid])
        np.testing.assert_allclose(one_by_one.values, whole.values, rtol=0, atol=2e-5)
        monkeypatch.undo()
    assert whole.num_tokens is not None
    assert whole.num_tokens[0].tolist() == [8] * 12 + [2, 4]  # the end counts
    (mean,) = ProjectorLikelihoodScorer(model, reduction="mean").score([grid])
    np.testing.assert_allclose(mean.values, whole.values / whole.num_tokens, atol=1e-9)


def test_a_picture_is_read_once_for_any_number_of_texts(
    model: ProjectorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, prefixes = [" ".join(["red"] * n) for n in range(1, 41)], list[object]()
    prefill = model.language.model.prefill

    def counted(vectors: torch.Tensor) -> Prefix:
        prefixes.append(vectors)
        return prefill(vectors)

    monkeypatch.setattr(model.language.model, "prefill", counted)
    grids = [Grid(item_id=str(k), images=IMAGES[:2], texts=texts) for k in range(2)]
    first, second = ProjectorLikelihoodScorer(model).score(grids)
    assert len(prefixes) == 2
    np.testing.assert_array_equal(first.values, second.values)


def test_p_yes_is_what_the_two_answers_share(model: ProjectorModel) -> None:
    grid = Grid(item_id="a", images=IMAGES[:2], texts=TEXTS[:3])
    template = "{image}Does this figure show {text} ?"
    (yes,) = ProjectorPYesScorer(model, template=template).score([grid])
    (no,) = ProjectorPYesScorer(model, template=template, answers=("no", "yes")).score([grid])
    np.testing.assert_allclose(yes.values + no.values, 1, atol=1e-9)
    assert np.ptp(yes.values) > 1e-3
    prompt = parse_prompt("{image}Does this figure show " + TEXTS[1] + " ?")
    with torch.no_grad():
        read = model.read(prompt, model.project(IMAGES[:1]))
        logits = model.language.model(read, 1)[0, 0].double()
    ids = [model.language.coder.encode(word)[0] for word in ("yes", "no")]
    assert yes.values[0, 1] == pytest.approx(float(logits[ids].softmax(0)[0]), abs=1e-6)


def test_what_cannot_be_scored_is_named(model: ProjectorModel) -> None:
    def grid(text: str) -> Grid:
        return Grid(item_id="item-3", images=IMAGES[:1], texts=[text])

    for text, said in (
        ("red " * 60, "makes a row of"),
        ("a </s> square", "control token"),
        (" ", "text is empty"),
    ):
        with pytest.raises(TokenError, match=f"item-3.*{said}"):
            ProjectorLikelihoodScorer(model).score([grid(text)])
    for text in ("red " * 60, "a </s> square"):
        with pytest.raises(TokenError, match="item-3"):
            ProjectorPYesScorer(model).score([grid(text)])
    with pytest.raises(ConfigError, match="has no tokens for an answer of"):
        ProjectorPYesScorer(model, answers=("oui", "non"))


def test_numbers_that_are_none_are_reported(model: ProjectorModel) -> None:
    with torch.no_grad():
        model.projector.linear_1.bias[0] = torch.nan
    with pytest.raises(EvaluationError, match="item 'a': the model gives a text no finite"):
        ProjectorLikelihoodScorer(model).score(
            [Grid(item_id="a", images=IMAGES[:1], texts=TEXTS[:1])]
        )
    (answer,) = ProjectorAnswerer(model).answer(
        [Question(item_id="a", images=IMAGES[:1], prompt="What is it ?")]
    )
    assert answer == ("", "failed")


def test_a_caption_that_holds_the_marker_of_a_slot_is_text(model: ProjectorModel) -> None:
    scorer = ProjectorLikelihoodScorer(model)
    (scores,) = scorer.score([Grid(item_id="a", images=IMAGES[:1], texts=["a {image} square"])])
    assert np.isfinite(scores.values).all()
    yes = ProjectorPYesScorer(model, template="{image}{text}?")
    assert np.isfinite(
        yes.score([Grid(item_id="a", images=IMAGES[:1], texts=["a {image}"])])[0].values
    ).all()


def test_answers_stop_at_their_limit_and_at_the_context(model: ProjectorModel) -> None:
    asked = [
        Question(item_id=str(n), images=IMAGES[:1], prompt="What is it ?", max_new_tokens=n)
        for n in (1, 5, 1000)
    ]
    said = [a.raw_text for a in ProjectorAnswerer(model).answer(asked)]
    assert said[1].startswith(said[0])
    assert said[2].startswith(said[1])
    context = model.language.model.context
    assert context is not None
    assert len(said[1].split()) <= 5 < len(said[2].split()) <= context - 16

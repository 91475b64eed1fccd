"""What scorers and answers of image-text-to-text models refuse, and what their settings tell."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.errors import CheckpointError, ConfigError, EvaluationError, TokenError
from genvlm.scoring.foreign_prompts import read_prompt
from genvlm.scoring.image_text_to_text import (
    ForeignAnswerer,
    ForeignLikelihoodScorer,
    ForeignPYesScorer,
)
from genvlm.scoring.protocols import Grid, Question
from genvlm.scoring.transformers_folder import ForeignModel, load_foreign
from genvlm.testing.foreign_models import (
    CHAT_TEMPLATE,
    LLAVA_PREFIX,
    write_tiny_chameleon,
    write_tiny_llava,
)
from genvlm.testing.tiny import tiny_pairs

TEXT, IMAGE = tiny_pairs()[0]
OTHER = tiny_pairs()[5][1]


@pytest.fixture
def llava(tmp_path: Path) -> ForeignModel:
    write_tiny_llava(tmp_path)
    return load_foreign(tmp_path, "image_text_to_text")


def grid(*texts: str) -> list[Grid]:
    return [Grid(item_id="item-3", images=[IMAGE], texts=texts)]


def question(prompt: str, *, num_images: int = 1, max_new_tokens: int = 4) -> Question:
    return Question(
        item_id="q", images=[IMAGE, OTHER][:num_images], prompt=prompt,
        max_new_tokens=max_new_tokens,
    )  # fmt: skip


def test_one_prompt_holds_one_bos_and_its_pictures(tmp_path: Path) -> None:
    write_tiny_llava(tmp_path, chat_template=CHAT_TEMPLATE, context=1000)
    foreign = load_foreign(tmp_path, "image_text_to_text")
    inputs = read_prompt(foreign, [IMAGE, OTHER], "What is it ?")
    ids = inputs["input_ids"][0].tolist()
    tokenizer = foreign.processor.tokenizer
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids.count(4) == 2 * (LLAVA_PREFIX - 1)
    assert inputs["pixel_values"].shape[0] == 2
    words = tokenizer.decode([i for i in ids if i != 4])
    assert words == "<s> user : What is it ? assistant :"


def test_a_plain_prompt_has_pictures_first_and_can_do_without(llava: ForeignModel) -> None:
    ids = read_prompt(llava, [IMAGE], "What is it ?")["input_ids"][0].tolist()
    assert ids[:LLAVA_PREFIX] == [1] + [4] * (LLAVA_PREFIX - 1)
    assert read_prompt(llava, [], "What is it ?")["input_ids"].shape == (1, 5)


def test_chameleon_ends_the_turn_behind_a_question_alone(tmp_path: Path) -> None:
    write_tiny_chameleon(tmp_path)
    foreign = load_foreign(tmp_path, "image_text_to_text")
    end = foreign.processor.tokenizer.sep_token_id
    assert read_prompt(foreign, [IMAGE], "a cow")["input_ids"][0, -1] == end
    assert end not in read_prompt(foreign, [IMAGE], "")["input_ids"]


@pytest.mark.parametrize("kind", [ForeignLikelihoodScorer, ForeignPYesScorer])
def test_what_does_not_fit_or_spells_a_picture_names_its_item(
    kind: type, llava: ForeignModel
) -> None:
    scorer = kind(llava)
    with pytest.raises(TokenError, match=r"item-3.*more than the 320.*shorten"):
        scorer.score(grid("red", "red " * 80))
    with pytest.raises(TokenError, match=r"item-3.*control token '<image>'"):
        scorer.score(grid("red", "a <image> of red"))


@pytest.mark.parametrize("kind", [ForeignLikelihoodScorer, ForeignPYesScorer])
def test_a_log_probability_that_is_no_number_is_an_error(kind: type, llava: ForeignModel) -> None:
    llava.model.lm_head.weight[7] = torch.nan
    with pytest.raises(EvaluationError, match=r"item-3.*no finite"):
        kind(llava).score(grid("red"))


def test_an_empty_text_is_its_end_alone(llava: ForeignModel) -> None:
    (scores,) = ForeignLikelihoodScorer(llava).score(grid("", "red"))
    np.testing.assert_array_equal(scores.num_tokens, [[1, 2]])
    llava.processor.tokenizer.eos_token = None
    scorer = ForeignLikelihoodScorer(llava)
    assert scorer.info.settings["end"] == []
    np.testing.assert_array_equal(scorer.score(grid("red"))[0].num_tokens, [[1]])
    with pytest.raises(TokenError, match=r"item-3.*empty"):
        scorer.score(grid(""))


def test_half_precision_reads_the_prompt_anew(tmp_path: Path) -> None:
    write_tiny_llava(tmp_path)
    precise = ForeignLikelihoodScorer(load_foreign(tmp_path, "image_text_to_text"))
    half = ForeignLikelihoodScorer(load_foreign(tmp_path, "image_text_to_text", dtype="bfloat16"))
    a, b = (scorer.score(grid("a red square", "blue"))[0].values for scorer in (precise, half))
    assert half._reader.shares_prompt is False
    assert 0 < np.abs(a - b).max() < 1
    assert precise.info.fingerprint != half.info.fingerprint


@pytest.mark.parametrize("template", ["Is it?", "{text} {text}", ""])
def test_a_question_holds_its_text_once(template: str, llava: ForeignModel) -> None:
    with pytest.raises(ConfigError, match=r"must hold \{text\} once"):
        ForeignPYesScorer(llava, template=template)


def test_an_answer_that_the_tokenizer_does_not_know_is_refused(llava: ForeignModel) -> None:
    with pytest.raises(ConfigError, match="no tokens for an answer"):
        ForeignPYesScorer(llava, answer="Oui")


def test_braces_in_a_text_stay_as_they_are(llava: ForeignModel) -> None:
    (scores,) = ForeignPYesScorer(llava).score(grid("{text}", "{", "red"))
    assert np.isfinite(scores.values).all()


def test_failures_are_told_and_do_not_stop_the_others(llava: ForeignModel) -> None:
    answers = ForeignAnswerer(llava).answer(
        [
            question("What is it ?"),
            question("red " * 80),
            question("a <image> of it"),
            question("What is it ?", num_images=2),
            question("What is it ?", num_images=0),
        ]
    )
    assert [a.status for a in answers] == ["ok", "failed", "failed", "failed", "ok"]
    assert [a.raw_text for a in answers[1:4]] == ["", "", ""]
    llava.model.lm_head.weight.fill_(torch.nan)
    assert ForeignAnswerer(llava).answer([question("What is it ?")])[0].status == "failed"


def test_an_answer_ends_at_its_limit_and_at_the_context(tmp_path: Path) -> None:
    write_tiny_llava(tmp_path, context=LLAVA_PREFIX + 6)
    foreign = load_foreign(tmp_path, "image_text_to_text")
    foreign.model.lm_head.weight[:5] = 0  # hardly ends
    answerer = ForeignAnswerer(foreign)
    lengths = [
        len(answerer.answer([question("red", max_new_tokens=n)])[0].raw_text.split())
        for n in (2, 4, 40)
    ]
    assert lengths == [2, 4, 5]


def test_a_processor_of_another_model_is_told(tmp_path: Path) -> None:
    write_tiny_llava(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_size": 4}))
    foreign = load_foreign(tmp_path, "image_text_to_text")
    with pytest.raises(CheckpointError, match="copy processor_config"):
        ForeignLikelihoodScorer(foreign).score(grid("red"))
    with pytest.raises(CheckpointError, match="copy processor_config"):
        ForeignAnswerer(foreign).answer([question("What is it ?")])


def test_sampling_settings_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    model = write_tiny_llava(tmp_path)
    model.lm_head.weight.data[:5] = 0  # hardly ends
    model.save_pretrained(tmp_path)
    asked = [question("red", max_new_tokens=12)]
    plain = ForeignAnswerer(load_foreign(tmp_path, "image_text_to_text"))
    words = plain.answer(asked)[0].raw_text.split()
    assert len(set(words)) < len(words)  # a penalty of repetition would change it
    (tmp_path / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 3.0, "repetition_penalty": 9.0, "eos_token_id": [2]}'
    )
    other = ForeignAnswerer(load_foreign(tmp_path, "image_text_to_text"))
    assert plain.answer(asked) == other.answer(asked)

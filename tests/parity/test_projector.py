"""A projector between parts of a Llava against transformers' own Llava, weight for weight."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from genvlm.config.image_encoder import ForeignPatchesConfig
from genvlm.config.projector import (
    ForeignLanguageConfig,
    ProjectorConfig,
)
from genvlm.data.captioning import collate_rows
from genvlm.data.pairs import fit_pixels
from genvlm.models.auxiliary.projector import ProjectorModel, assemble_projector, build_projector
from genvlm.models.patches import build_patches
from genvlm.models.text_only import build_language
from genvlm.scoring.projector import ProjectorAnswerer, ProjectorLikelihoodScorer
from genvlm.scoring.protocols import Grid, Question
from genvlm.testing.foreign_models import tiny_tokenizer
from genvlm.testing.tiny import tiny_pairs
from genvlm.tokenization.image_slots import Row, parse_prompt
from genvlm.training.objectives.captioning import CaptioningObjective

PAIRS = tiny_pairs()
IMAGES = [PAIRS[i][1] for i in (0, 7)]
PROMPT = parse_prompt("Does {image} depicts a red square or {image} ?")


class Both(NamedTuple):
    llava: Any
    ours: ProjectorModel


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A random Llava, and its three parts put together by us."""
    import transformers

    folder = tmp_path_factory.mktemp("llava")
    tokenizer = tiny_tokenizer()
    shape = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }  # fmt: skip
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=96, bos_token_id=1, eos_token_id=2,
        **shape,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(image_size=16, patch_size=4, **shape)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_id=image_token
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        llava = transformers.LlavaForConditionalGeneration(config).eval()
        for parameter in llava.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
    language = transformers.LlamaForCausalLM(text)
    language.model.load_state_dict(llava.model.language_model.state_dict())
    language.lm_head.load_state_dict(llava.lm_head.state_dict())
    language.save_pretrained(folder / "language")
    tokenizer.save_pretrained(folder / "language")
    llava.model.vision_tower.save_pretrained(folder / "image")
    transformers.CLIPImageProcessorPil().save_pretrained(folder / "image")
    parts = ProjectorConfig(
        image_encoder=ForeignPatchesConfig(path=str(folder / "image")),
        language_model=ForeignLanguageConfig(path=str(folder / "language")),
    )
    patches, speaking = build_patches(parts.image_encoder), build_language(parts.language_model)
    projector = build_projector(parts, patches, speaking)
    projector.load_state_dict(llava.model.multi_modal_projector.state_dict())
    return Both(llava, assemble_projector(projector, parts, patches, speaking))


def their_inputs(both: Both, row: Row) -> dict[str, Tensor]:
    """The row in transformers' way, and pictures as CLIP's statistics prepare them."""
    from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    is_image = torch.tensor([row.is_image])
    ids = torch.tensor([row.token_ids]).masked_fill(is_image, both.llava.config.image_token_id)
    pixels = (np.stack(IMAGES) / 255 - OPENAI_CLIP_MEAN) / OPENAI_CLIP_STD
    return {"input_ids": ids, "pixel_values": torch.from_numpy(pixels).float().permute(0, 3, 1, 2)}


@torch.no_grad()
def test_logits_of_two_pictures_between_words_are_those_of_llava(both: Both) -> None:
    row = both.ours.lay_out(PROMPT, 2)
    assert sum(row.is_image) == 32
    vectors = both.ours.read(PROMPT, both.ours.project(IMAGES))
    found = both.ours.language.model(vectors, vectors.shape[1])
    expected = both.llava(**their_inputs(both, row)).logits
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-5
    other = both.ours.read(PROMPT, both.ours.project(IMAGES[::-1]))
    turned = both.ours.language.model(other, other.shape[1])
    assert (turned - expected).abs().max() > 1e-2  # pictures matter, and their order


def test_loss_and_gradient_of_a_caption_are_those_of_llava(both: Both) -> None:
    row = both.ours.lay_out(PROMPT, 2, "a red bar")
    inputs = their_inputs(both, row)
    labels = inputs["input_ids"].masked_fill(~torch.tensor([row.learned]), -100)
    both.llava.zero_grad()
    loss = both.llava(**inputs, labels=labels).loss
    loss.backward()
    projector = both.ours.projector.requires_grad_(True)
    objective = CaptioningObjective(projector, both.ours.patches.encoder, both.ours.language.model)
    batch = collate_rows([row], fit_pixels(IMAGES, 16), float(sum(row.learned)))
    mean = objective(batch).weighted_sum / batch.loss_denominator
    mean.backward()
    assert mean.item() == pytest.approx(loss.item(), abs=1e-5)
    theirs = dict(both.llava.model.multi_modal_projector.named_parameters())
    for name, parameter in projector.named_parameters():
        assert theirs[name].grad.abs().max() > 1e-4
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)
    projector.requires_grad_(False)
    projector.zero_grad()


@torch.no_grad()
def test_a_score_is_the_sum_of_llavas_log_probabilities(both: Both) -> None:
    texts = ["a red bar", "Yes", "a yellow corner on a white page"]
    prompt = "{image} Describe the image"
    scorer = ProjectorLikelihoodScorer(both.ours, prompt=prompt)
    (scores,) = scorer.score([Grid(item_id="a", images=IMAGES, texts=texts)])
    for i in range(2):
        for j, text in enumerate(texts):
            row = both.ours.lay_out(parse_prompt(prompt), 1, text)
            inputs = their_inputs(both, row)
            inputs["pixel_values"] = inputs["pixel_values"][i : i + 1]
            log_probs = both.llava(**inputs).logits[0, :-1].log_softmax(-1)
            chosen = log_probs.gather(1, inputs["input_ids"][0, 1:, None])[:, 0]
            expected = chosen[torch.tensor(row.learned[1:])].double().sum()
            assert scores.values[i, j] == pytest.approx(float(expected), abs=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["What is it ?", "on {image} or on {image} ?"])
def test_answers_are_what_llava_generates_greedily(both: Both, prompt: str) -> None:
    question = Question(item_id="a", images=IMAGES, prompt=prompt, max_new_tokens=12)
    (answer,) = ProjectorAnswerer(both.ours).answer([question])
    slots = prompt if "{image}" in prompt else "{image}{image}" + prompt
    inputs = their_inputs(both, both.ours.lay_out(parse_prompt(slots), 2))
    whole = both.llava.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)
    new = whole[0, inputs["input_ids"].shape[1] :].tolist()
    assert len(new) > 1
    assert answer == (both.ours.language.coder.decode(new), "ok")

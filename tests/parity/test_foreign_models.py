"""Scorers of foreign models against transformers' own forward passes, written out plainly."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genvlm.errors import ConfigError
from genvlm.scoring import foreign_prompts
from genvlm.scoring.contrastive import ContrastiveScorer, ForeignEmbedder
from genvlm.scoring.foreign_prompts import ContinuationReader
from genvlm.scoring.image_text_to_text import (
    VQASCORE_TEMPLATE,
    ForeignAnswerer,
    ForeignLikelihoodScorer,
    ForeignPYesScorer,
)
from genvlm.scoring.protocols import Grid, Question
from genvlm.scoring.transformers_folder import ForeignModel, load_foreign
from genvlm.testing.foreign_models import (
    CHAT_TEMPLATE,
    CONTEXT,
    LLAVA_PREFIX,
    write_tiny_chameleon,
    write_tiny_clip,
    write_tiny_llava,
    write_tiny_siglip,
    write_tiny_siglip2,
)
from genvlm.testing.tiny import tiny_pairs

PAIRS = tiny_pairs()
TEXTS = [text for text, _ in PAIRS[:5]] + ["a red square"]
IMAGES = [PAIRS[i][1] for i in (0, 4, 7)]
PICTURES = [Image.fromarray(image) for image in IMAGES]
GRID = Grid(item_id="a", images=IMAGES, texts=TEXTS)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> ForeignModel:
    folder = tmp_path_factory.mktemp("llava")
    write_tiny_llava(folder)
    return load_foreign(folder, "image_text_to_text")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ForeignModel:
    folder = tmp_path_factory.mktemp("chat")
    write_tiny_llava(folder, chat_template=CHAT_TEMPLATE)
    return load_foreign(folder, "image_text_to_text")


@pytest.fixture(scope="module")
def chameleon(tmp_path_factory: pytest.TempPathFactory) -> ForeignModel:
    folder = tmp_path_factory.mktemp("chameleon")
    write_tiny_chameleon(folder)
    return load_foreign(folder, "image_text_to_text")


@torch.no_grad()
@pytest.mark.parametrize(
    ("write", "options"),
    [
        (write_tiny_clip, {"padding": True}),
        (write_tiny_siglip, {"padding": "max_length", "max_length": CONTEXT}),
        (write_tiny_siglip2, {"padding": "max_length", "max_length": 64}),
    ],
)
def test_cosines_are_the_logits_of_the_model_without_scale_and_bias(
    write: Callable[..., Any], options: dict[str, Any], tmp_path: Path
) -> None:
    model = write(tmp_path)
    foreign = load_foreign(tmp_path, "contrastive")
    # That of the folder: transformers reads some tokenizers back as another class.
    inputs = foreign.processor(text=TEXTS, images=PICTURES, return_tensors="pt", **options)
    logits = model(**inputs).logits_per_image - getattr(model, "logit_bias", 0.0)
    expected = (logits / model.logit_scale.exp()).numpy()
    (scores,) = ContrastiveScorer(ForeignEmbedder(foreign)).score([GRID])
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def naive(foreign: ForeignModel, image: Image.Image, before: str, text: str) -> Tensor:
    """log p of the text's tokens and EOS: one pass over the whole, gathered by hand."""
    model, processor = foreign.model, foreign.processor
    prompt = processor(images=[image], text=[before], return_tensors="pt", **same_turn(foreign))
    tokens = processor.tokenizer(text, add_special_tokens=False)["input_ids"] + [2]
    whole = torch.cat([prompt["input_ids"], torch.tensor([tokens])], 1)
    logits = model(
        input_ids=whole, attention_mask=torch.ones_like(whole), pixel_values=prompt["pixel_values"]
    ).logits[0]
    length = prompt["input_ids"].shape[1]
    log_probs = logits.log_softmax(-1)
    return torch.stack([log_probs[length - 1 + k, token] for k, token in enumerate(tokens)])


def same_turn(foreign: ForeignModel) -> dict[str, bool]:
    is_chameleon = foreign.settings["model_type"] == "chameleon"
    return {"return_for_text_completion": True} if is_chameleon else {}


@pytest.mark.parametrize("name", ["llava", "chameleon"])
def test_text_given_image_equals_the_naive_pass(name: str, request: pytest.FixtureRequest) -> None:
    foreign = request.getfixturevalue(name)
    scorer = ForeignLikelihoodScorer(foreign)
    (scores,) = scorer.score([GRID])
    assert scorer._reader.shares_prompt
    rows = [[naive(foreign, p, "<image>", text) for text in TEXTS] for p in PICTURES]
    expected = np.array([[float(r.double().sum()) for r in row] for row in rows])
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(scores.num_tokens, [[len(r) for r in row] for row in rows])
    (mean,) = ForeignLikelihoodScorer(foreign, reduction="mean").score([GRID])
    np.testing.assert_allclose(mean.values, expected / scores.num_tokens, rtol=0, atol=1e-4)


def test_a_picture_of_256_patches_is_read_once_and_scores_the_same(
    llava: ForeignModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = ForeignLikelihoodScorer(llava)
    scorer.score([GRID])
    lengths: list[int] = []
    forward = llava.model.forward

    def counting(**inputs: Any) -> Any:
        lengths.append(inputs["input_ids"].shape[1])
        return forward(**inputs)

    monkeypatch.setattr(llava.model, "forward", counting)
    (shared,) = scorer.score([GRID])
    assert [n for n in lengths if n >= LLAVA_PREFIX] == [LLAVA_PREFIX] * len(IMAGES)
    scorer._reader._shares = False
    (unshared,) = scorer.score([GRID])
    np.testing.assert_allclose(shared.values, unshared.values, rtol=0, atol=1e-4)


def test_texts_in_several_batches_do_not_see_each_other(
    llava: ForeignModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = ForeignLikelihoodScorer(llava).score([GRID])
    monkeypatch.setattr(foreign_prompts, "_TOKENS_PER_BATCH", 2 * (LLAVA_PREFIX + 12))
    (found,) = ForeignLikelihoodScorer(llava).score([GRID])
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-4)


def test_with_a_prompt_the_text_is_the_turn_of_the_assistant(chat: ForeignModel) -> None:
    (scores,) = ForeignLikelihoodScorer(chat, prompt="Describe the image").score([GRID])
    # Without the template's BOS: the processor adds one.
    before = "user : <image> Describe the image assistant : "
    expected = [
        [float(naive(chat, picture, before, text).double().sum()) for text in TEXTS]
        for picture in PICTURES
    ]
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llava", "chat"])
def test_p_yes_is_the_softmax_of_the_last_logits(name: str, request: Any) -> None:
    foreign = request.getfixturevalue(name)
    begin, end = {"llava": ("<image>\n", ""), "chat": ("user : <image> ", " assistant : ")}[name]
    yes, no = foreign.processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    expected = np.zeros((2, len(IMAGES), len(TEXTS)))
    for i, picture in enumerate(PICTURES):
        for t, text in enumerate(TEXTS):
            question = begin + VQASCORE_TEMPLATE.replace("{text}", text) + end
            inputs = foreign.processor(images=[picture], text=[question], return_tensors="pt")
            p = foreign.model(**inputs).logits[0, -1].softmax(-1)
            expected[:, i, t] = float(p[yes]), float(p[yes] / (p[yes] + p[no]))
    assert np.ptp(expected[0]) > 1e-3
    for against, values in ((None, expected[0]), ("No", expected[1])):
        scorer = ForeignPYesScorer(foreign, against=against)
        np.testing.assert_allclose(scorer.score([GRID])[0].values, values, rtol=0, atol=1e-6)
        assert scorer.info.settings["answer_tokens"] == [["Yes"], *([["No"]] if against else [])]


@torch.no_grad()
def test_answers_take_the_most_probable_token_each_time(llava: ForeignModel) -> None:
    tokenizer = llava.processor.tokenizer
    questions, expected = [], []
    for i, prompt in enumerate(["What is it ?", "Describe the image", "a red square or a bar ?"]):
        picture = PICTURES[i]
        inputs = dict(
            llava.processor(images=[picture], text=["<image>\n" + prompt], return_tensors="pt")
        )
        ids = inputs["input_ids"]
        length = ids.shape[1]
        while ids.shape[1] < length + 6 and (ids.shape[1] == length or ids[0, -1] != 2):
            logits = llava.model(
                input_ids=ids, attention_mask=torch.ones_like(ids),
                pixel_values=inputs["pixel_values"],
            ).logits  # fmt: skip
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
        expected.append(tokenizer.decode(ids[0, length:], skip_special_tokens=True))
        questions.append(
            Question(item_id=str(i), images=[IMAGES[i]], prompt=prompt, max_new_tokens=6)
        )
    answers = ForeignAnswerer(llava).answer(questions)
    assert [a.raw_text for a in answers] == expected
    assert any(len(text.split()) > 3 for text in expected)
    assert all(a.status == "ok" for a in answers)


# Other architectures, whose positions, masks and caches differ: the shared prompt against a pass
# over everything, on what their processors would give.
TOWER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
PICTURE_TOKEN = 4
Built = tuple[Any, Mapping[str, Tensor]]


def random_model(kind: Any, config: Any) -> Any:
    model = kind(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.3, generator=generator)
    return model


def prompt_inputs(ids: list[int], **more: Tensor) -> dict[str, Tensor]:
    tokens = torch.tensor([ids])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **more}


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def build_qwen2_vl() -> Built:
    """Positions of rows and columns, which go on behind the picture from its longer side."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={
            **TOWER, "vocab_size": 50, "num_key_value_heads": 2, "rope_parameters": rope,
            "bos_token_id": 1, "eos_token_id": 2,
        },
        vision_config={
            "depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4,
            "mlp_ratio": 2,
        },
        image_token_id=PICTURE_TOKEN, vision_start_token_id=20, vision_end_token_id=21,
        video_token_id=22,
    )  # fmt: skip
    ids = [1, 20, *[PICTURE_TOKEN] * 16, 21, 5, 6]
    kinds = (torch.tensor([ids]) == PICTURE_TOKEN).int()
    more = {"pixel_values": noise(64, 96), "image_grid_thw": torch.tensor([[1, 8, 8]])}
    inputs = prompt_inputs(ids, mm_token_type_ids=kinds, **more)
    return random_model(Qwen2VLForConditionalGeneration, config), inputs


def build_gemma3() -> Built:
    """A sliding window of 8 tokens in one layer; patches of a picture see each other."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    text = Gemma3TextConfig(
        vocab_size=50, num_key_value_heads=1, head_dim=8, sliding_window=8,
        layer_types=["sliding_attention", "full_attention"], **TOWER,
    )  # fmt: skip
    config = Gemma3Config(
        text_config=text.to_dict(),
        vision_config=SiglipVisionConfig(image_size=16, patch_size=2, **TOWER).to_dict(),
        mm_tokens_per_image=16, image_token_id=PICTURE_TOKEN, boi_token_index=20,
        eoi_token_index=21,
    )  # fmt: skip
    ids = [1, 20, *[PICTURE_TOKEN] * 16, 21, 5, 6]
    kinds = (torch.tensor([ids]) == PICTURE_TOKEN).int()
    inputs = prompt_inputs(ids, token_type_ids=kinds, pixel_values=noise(1, 3, 16, 16))
    return random_model(Gemma3ForConditionalGeneration, config), inputs


def build_idefics3() -> Built:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

    text = LlamaConfig(vocab_size=50, num_key_value_heads=2, **TOWER)
    config = Idefics3Config(
        text_config=text.to_dict(),
        vision_config={**TOWER, "image_size": 16, "patch_size": 4},
        image_token_id=PICTURE_TOKEN, scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    ids = [1, *[PICTURE_TOKEN] * 4, 5, 6]
    inputs = prompt_inputs(ids, pixel_values=noise(1, 1, 3, 16, 16))
    return random_model(Idefics3ForConditionalGeneration, config), inputs


def build_paligemma() -> Built:
    """Its prompt, and in a plain pass everything, is read in both directions."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipVisionConfig,
    )

    text = GemmaConfig(vocab_size=50, num_key_value_heads=1, head_dim=8, **TOWER)
    config = PaliGemmaConfig(
        text_config=text.to_dict(),
        vision_config=SiglipVisionConfig(image_size=16, patch_size=4, **TOWER).to_dict(),
        image_token_id=PICTURE_TOKEN, projection_dim=32,
    )  # fmt: skip
    ids = [*[PICTURE_TOKEN] * 16, 1, 5, 6]
    kinds = torch.zeros_like(torch.tensor([ids]))
    inputs = prompt_inputs(ids, token_type_ids=kinds, pixel_values=noise(1, 3, 16, 16))
    return random_model(PaliGemmaForConditionalGeneration, config), inputs


@torch.no_grad()
@pytest.mark.parametrize("build", [build_qwen2_vl, build_gemma3, build_idefics3])
def test_other_architectures_read_their_prompt_once(build: Callable[[], Built]) -> None:
    model, inputs = build()
    reader = ContinuationReader(ForeignModel(model, None, {}))
    rows = [[7, 8, 9, 10, 11], [9], [12, 13, 14]]
    scored = reader.log_probs(inputs, rows)
    assert reader.shares_prompt
    for row, found in zip(rows, scored, strict=True):
        expected = reader._alone(inputs, torch.tensor(row)).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_model_that_reads_ahead_is_refused() -> None:
    model, inputs = build_paligemma()
    reader = ContinuationReader(ForeignModel(model, None, {}))
    assert len(reader.log_probs(inputs, [[7]])[0]) == 1  # one token sees the prompt alone
    with pytest.raises(ConfigError, match="behind the one it predicts"):
        reader.log_probs(inputs, [[7, 8, 9]])


def test_without_a_cache_that_repeats_the_prompt_is_read_anew(
    llava: ForeignModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import DynamicCache

    (expected,) = ForeignLikelihoodScorer(llava).score([GRID])

    def refuse(*_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(DynamicCache, "batch_repeat_interleave", refuse)
    scorer = ForeignLikelihoodScorer(llava)
    (found,) = scorer.score([GRID])
    assert scorer._reader.shares_prompt is False
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-4)

"""Chameleon of transformers and of Meta against ours: equal logits, and bitwise ways back."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.syntax import SyntaxConfig
from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.errors import CheckpointError, TokenError
from genvlm.models.build import build_transformer
from genvlm.models.convert import layouts
from genvlm.models.convert.chameleon import code_name, load_from_model_folder
from genvlm.models.pretrained import (
    PretrainedModel,
    build_vocabulary,
    load_pretrained,
    save_pretrained,
)
from genvlm.nn.foreign_tensors import read_sharded
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.scoring.autoregressive import Likelihood
from genvlm.testing.chameleon import (
    CODES,
    tiny_tokenizer_json,
    tiny_vocabulary_map,
    write_tiny_huggingface,
    write_tiny_meta,
)
from genvlm.testing.tiny import tiny_pretrained, tiny_transformer_config
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.text import HuggingFaceTokenizer
from genvlm.tokenization.video import inflate
from genvlm.tokenization.vqgan import VQGAN

pytest.importorskip("transformers", reason="transformers is not installed")
from transformers import ChameleonForConditionalGeneration

from tokenizers import Tokenizer

convert = layouts.convert


@pytest.fixture(scope="module", params=[False, True], ids=["pre-norm", "swin"])
def huggingface(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Transformers' model, its folder, and our folder made of it."""
    root = tmp_path_factory.mktemp("hf")
    model = write_tiny_huggingface(root / "theirs", swin=request.param)
    assert len(list((root / "theirs").glob("*.safetensors"))) > 1
    convert(root / "theirs", root / "ours", "genvlm")
    return model, root / "theirs", root / "ours"


def foreign_rows(folder: Path) -> np.ndarray:
    return np.array(json.loads((folder / "origin/token_ids.json").read_text()))


def logits_in_foreign_order(ours: PretrainedModel, rows: np.ndarray, ids: torch.Tensor) -> Any:
    own = np.full(rows.max() + 1, -1)
    own[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    logits = ours.model.head(ours.model(torch.from_numpy(own)[ids]))
    return logits[..., torch.from_numpy(own)]


@torch.no_grad()
def test_logits_equal_those_of_transformers(huggingface: Any) -> None:
    model, _, folder = huggingface
    ours = load_pretrained(folder)
    ids = torch.randint(
        model.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(0)
    )
    ids[ids == model.config.vocabulary_map["<image>"]] = 0
    logits = logits_in_foreign_order(ours, foreign_rows(folder), ids)
    expected = model(input_ids=ids).logits
    text = expected[0, 0] > torch.finfo(torch.float32).min  # transformers masks the image codes
    assert int((~text).sum()) == CODES
    assert (logits - expected)[..., text].abs().max() <= 1e-5
    whole = model.lm_head(model.model(input_ids=ids).last_hidden_state)
    assert (logits - whole).abs().max() <= 1e-5
    assert whole.std() > 0.5


@torch.no_grad()
def test_greedy_tokens_equal_those_of_transformers(huggingface: Any) -> None:
    model, _, folder = huggingface
    ours, rows = load_pretrained(folder), foreign_rows(folder)
    image = [model.config.vocabulary_map[n] for n in tiny_vocabulary_map("<image>") if "IMG" in n]
    start = torch.tensor([[0, 42, 43], [0, 44, 45]])
    expected = model.generate(
        input_ids=start, max_new_tokens=20, min_new_tokens=20, do_sample=False, eos_token_id=-1,
        attention_mask=torch.ones_like(start),
    )  # fmt: skip
    ids = start
    for _ in range(20):
        logits = logits_in_foreign_order(ours, rows, ids)[:, -1]
        logits[:, image] = -torch.inf  # as transformers does
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(ids, expected)


@torch.no_grad()
def test_codes_of_pictures_equal_those_of_transformers(huggingface: Any) -> None:
    model, _, folder = huggingface
    tokenizer = load_pretrained(folder).image_tokenizer
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    expected = model.model.get_image_tokens(pixels)  # foreign ids of the codes
    codes = tokenizer.encode(list(images)).reshape(3, -1)
    assert np.array_equal(foreign_rows(folder)[codes], expected.numpy())
    assert len(np.unique(codes)) > 3
    with pytest.raises(CheckpointError, match="came without a decoder"):
        tokenizer.decode(tokenizer.encode(list(images)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_hugging_face_to_genvlm_and_back_is_bitwise(dtype: str, tmp_path: Path) -> None:
    write_tiny_huggingface(tmp_path / "theirs", dtype=dtype)
    convert(tmp_path / "theirs", tmp_path / "ours", "genvlm")
    convert(tmp_path / "ours", tmp_path / "again", "hf-chameleon")
    before, after = (read_sharded(tmp_path / n) for n in ("theirs", "again"))
    same_tensors(before, after)
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        assert (tmp_path / "theirs" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    _, report = ChameleonForConditionalGeneration.from_pretrained(
        tmp_path / "again", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def same_tensors(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name


@torch.no_grad()
@pytest.mark.parametrize("swin", [False, True], ids=["pre-norm", "swin"])
@pytest.mark.parametrize("num_parts", [1, 2])
def test_metas_layout_gives_what_transformers_would_compute(
    num_parts: int, swin: bool, tmp_path: Path
) -> None:
    """Meta -> ours -> Hugging Face, whose logits are then the judge of the permutations."""
    theirs = write_tiny_meta(tmp_path / "meta", num_parts=num_parts, swin=swin)
    convert(tmp_path / "meta", tmp_path / "ours", "genvlm")
    convert(tmp_path / "ours", tmp_path / "hf", "hf-chameleon")
    model, report = ChameleonForConditionalGeneration.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(4, 50, (2, 20), generator=torch.Generator().manual_seed(0))
    ids[ids == model.config.vocabulary_map["<image>"]] = 4
    expected = model.lm_head(model.model(input_ids=ids).last_hidden_state)
    ours = load_pretrained(tmp_path / "ours")
    logits = logits_in_foreign_order(ours, foreign_rows(tmp_path / "ours"), ids)
    assert (logits - expected).abs().max() <= 1e-5
    meta = meta_logits(theirs, ids, num_parts=num_parts, swin=swin)
    assert (logits - meta).abs().max() <= 2e-5
    assert meta.std() > 0.3


def meta_logits(
    t: dict[str, torch.Tensor], ids: torch.Tensor, *, num_parts: int, swin: bool
) -> Any:
    """Meta's transformer in plain torch: rotary pairs are neighbours, norms belong to parts."""
    heads, kv_heads, dim = 4, 2, 8

    def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight

    def turn(x: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], dim // 2, 2))
        return torch.view_as_real(
            pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
        ).flatten(-2)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = []
        for i, heads_of_part in enumerate(x.chunk(num_parts, 2)):
            own = slice(i * dim, (i + 1) * dim)
            weight, bias = t[f"{name}.weight"][own], t[f"{name}.bias"][own]
            parts.append(torch.nn.functional.layer_norm(heads_of_part, (dim,), weight, bias))
        return torch.cat(parts, 2)

    x = t["tok_embeddings.weight"][ids]
    for i in range(2):
        p = f"layers.{i}."

        def attend(x: torch.Tensor, p: str = p) -> torch.Tensor:
            q = (x @ t[p + "attention.wq.weight"].T).view(*ids.shape, heads, dim)
            k = (x @ t[p + "attention.wk.weight"].T).view(*ids.shape, kv_heads, dim)
            v = (x @ t[p + "attention.wv.weight"].T).view(*ids.shape, kv_heads, dim)
            q = turn(norm(q, p + "attention.q_normalization")).transpose(1, 2)
            k = turn(norm(k, p + "attention.k_normalization")).transpose(1, 2)
            k, v = (y.repeat_interleave(heads // kv_heads, 1) for y in (k, v.transpose(1, 2)))
            scores = (q @ k.transpose(-1, -2)) * dim**-0.5
            scores = scores.masked_fill(torch.ones(ids.shape[1:] * 2).triu(1).bool(), -torch.inf)
            out = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            return out @ t[p + "attention.wo.weight"].T

        def feed(x: torch.Tensor, p: str = p) -> torch.Tensor:
            gate = torch.nn.functional.silu(x @ t[p + "feed_forward.w1.weight"].T)
            return (gate * (x @ t[p + "feed_forward.w3.weight"].T)) @ t[
                p + "feed_forward.w2.weight"
            ].T

        first, second = t[p + "attention_norm.weight"], t[p + "ffn_norm.weight"]
        x = x + (rms(attend(x), first) if swin else attend(rms(x, first)))
        x = x + (rms(feed(x), second) if swin else feed(rms(x, second)))
    return rms(x, t["norm.weight"]) @ t["output.weight"].T


@pytest.mark.parametrize("num_parts", [1, 2])
def test_meta_to_genvlm_and_back_is_bitwise(num_parts: int, tmp_path: Path) -> None:
    write_tiny_meta(tmp_path / "meta", num_parts=num_parts)
    if num_parts == 2:  # norms that training let drift apart
        path = tmp_path / "meta/models/7b/consolidated.01.pth"
        part = torch.load(path, weights_only=True)
        part["layers.1.ffn_norm.weight"] += 1e-3
        torch.save(part, path)
    convert(tmp_path / "meta", tmp_path / "ours", "genvlm")
    convert(tmp_path / "ours", tmp_path / "again", "meta-chameleon")
    names = {p.name for p in (tmp_path / "meta/models/7b").iterdir()}
    assert names == {p.name for p in (tmp_path / "again/models/model").iterdir()}
    for name in names:
        before, after = tmp_path / "meta/models/7b" / name, tmp_path / "again/models/model" / name
        if name.endswith(".json"):
            assert before.read_bytes() == after.read_bytes()
        else:
            same_tensors(*(torch.load(p, weights_only=True) for p in (before, after)))
    tokenizers = [tmp_path / n / "tokenizer" for n in ("meta", "again")]
    for name in ("text_tokenizer.json", "vqgan.yaml"):
        assert (tokenizers[0] / name).read_bytes() == (tokenizers[1] / name).read_bytes()
    same_tensors(
        *(torch.load(p / "vqgan.ckpt", weights_only=True)["state_dict"] for p in tokenizers)
    )


def test_an_imported_model_scores_and_refuses_control_tokens_in_texts(tmp_path: Path) -> None:
    write_tiny_meta(tmp_path / "meta")
    convert(tmp_path / "meta", tmp_path / "ours", "genvlm")
    pretrained = load_pretrained(tmp_path / "ours")
    codes = np.arange(64).reshape(8, 8) % CODES
    likelihood = Likelihood(pretrained)
    (given,) = likelihood.score_image_given_text([(codes, "a red square")])
    (text,) = likelihood.score_text_given_image([(codes, "a red square")])
    assert (len(given.log_probs), len(text.log_probs)) == (64, 4)
    assert pretrained.image_tokenizer.decode(codes[None]).shape == (1, 16, 16, 3)
    for hidden in ("<racm3:break>", "IMGIMGAZ", "</s>"):
        with pytest.raises(TokenError, match="stands for an image or a control token"):
            likelihood.score_text_given_image([(codes, f"a red {hidden} square")])


def test_a_decoder_can_be_added_to_hugging_faces_model(tmp_path: Path) -> None:
    write_tiny_meta(tmp_path / "meta")
    convert(tmp_path / "meta", tmp_path / "hf", "hf-chameleon")
    convert(tmp_path / "hf", tmp_path / "blind", "genvlm")
    with pytest.raises(CheckpointError, match="came without one"):
        convert(tmp_path / "blind", tmp_path / "x", "meta-chameleon")
    vqgan = tmp_path / "meta/tokenizer/vqgan.ckpt"
    convert(tmp_path / "hf", tmp_path / "seeing", "genvlm", vqgan=vqgan)
    tokenizer = load_pretrained(tmp_path / "seeing").image_tokenizer
    codes = tokenizer.encode([np.zeros((16, 16, 3), np.uint8)])
    assert tokenizer.decode(codes).shape == (1, 16, 16, 3)
    state = torch.load(vqgan, weights_only=True)
    state["state_dict"]["quantize.embedding.weight"] += 1
    torch.save(state, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"has another quantize\.embedding"):
        convert(tmp_path / "hf", tmp_path / "y", "genvlm", vqgan=tmp_path / "other.ckpt")


def test_a_shared_norm_is_written_for_every_head_and_unequal_heads_are_no_part(
    tmp_path: Path,
) -> None:
    write_tiny_huggingface(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours", "genvlm", vqgan=None)
    checkpoint = load_from_model_folder(tmp_path / "ours")
    assert checkpoint.tensors["blocks.0.attention.q_norm.weight"].shape == (4, 8)
    write_tiny_meta(tmp_path / "meta")
    convert(tmp_path / "meta", tmp_path / "shared", "genvlm")
    shared = load_from_model_folder(tmp_path / "shared")
    assert shared.tensors["blocks.0.attention.q_norm.weight"].shape == (8,)


def break_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_names(folder: Path, changes: dict[str, object]) -> None:
    names = json.loads((folder / "config.json").read_text())["vocabulary_map"]
    break_config(folder, vocabulary_map=names | changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: break_config(f, attention_bias=True), "sets attention_bias"),
        (lambda f: break_config(f, num_hidden_layers=3), r"missing: blocks.2"),
        (lambda f: break_config(f, num_hidden_layers=1), r"unexpected: blocks.1"),
        (lambda f: break_config(f, intermediate_size=50), r"misshapen: .*\(50, 32\)"),
        (lambda f: break_config(f, vocabulary_map={"<s>": 0}), "names 0 image codes"),
        (lambda f: break_config(f, vocabulary_map=None), "is no Chameleon"),
        (lambda f: break_config(f, rms_norm_eps=1e-6), "has norm_eps 1e-06"),
        (lambda f: break_config(f, hidden_act="gelu"), "'gelu' instead of silu"),
        (lambda f: break_config(f, rope_parameters={"type": "linear"}), "positions 'linear'"),
        (lambda f: break_config(f, vocab_size=9999), "says vocab_size 9999"),
        (lambda f: break_config(f, num_attention_heads=0), "contradicts itself"),
        (lambda f: change_names(f, {"</s>": 0}), "one id"),
        (lambda f: change_names(f, {"IMGIMGAAZ": 44}), "'IMGIMGAAZ', which is no image code"),
        (lambda f: change_names(f, {"cow": "7"}), "gives 'cow' the id '7'"),
        (lambda f: (f / "tokenizer.json").unlink(), "lacks tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "is not a `tokenizers` JSON"),
        (lambda f: next(f.glob("model-00002*")).unlink(), "no weights at"),
        (lambda f: next(f.glob("*.index.json")).write_text("[]"), "is no index of shards"),
        (lambda f: break_config(f, model_type="llama"), "is of no known layout"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write_tiny_huggingface(tmp_path / "theirs")
    damage(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "theirs", tmp_path / "ours", "genvlm")
    assert not (tmp_path / "ours").exists()


def drop(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "models/7b/consolidated.pth"
        tensors = torch.load(path, weights_only=True)
        tensors["odd.weight"] = tensors.pop(name)
        torch.save(tensors, path)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("layers.1.attention.wk.weight"), r"missing: layers.1.attention.wk.*odd.weight"),
        (lambda r: (r / "models/7b/params.json").write_text("{"), "no readable params.json"),
        (lambda r: (r / "tokenizer/text_tokenizer.json").unlink(), "no text tokenizer at"),
        (lambda r: (r / "tokenizer/vqgan.yaml").write_text("a: 1"), "tells no resolution"),
        (lambda r: (r / "models/7b/consolidated.pth").write_bytes(b"x"), "without running code"),
        (lambda r: (r / "models/8b").mkdir() or (r / "models/8b/params.json").write_text("{}"),
         "holds several models"),
    ],
)  # fmt: skip
def test_a_release_of_meta_that_is_not_whole_is_refused(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write_tiny_meta(tmp_path / "meta")
    damage(tmp_path / "meta")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "meta", tmp_path / "ours", "genvlm")


@pytest.fixture
def trained_here() -> PretrainedModel:
    """A model of Chameleon's shape with a tokenizer file of its own."""
    text = HuggingFaceTokenizer(
        tiny_tokenizer_json({"<unk>": 0, "<s>": 1, "a": 2, "cow": 3}).encode()
    )
    config = VQGANConfig(
        resolution=16, channels=32, channel_multipliers=(1, 1), num_res_blocks=1, z_channels=8,
        codebook_size=16, codebook_dim=4,
    )  # fmt: skip
    image = ImageTokenizer(config, VQGAN(config))
    shape = tiny_transformer_config(qk_norm="layer", rotary_dims=None)
    model = build_transformer(shape, build_vocabulary(text, image).size, seed=3).eval()
    return PretrainedModel(
        model=model, text_tokenizer=text, image_tokenizer=image, condition_dropout=0.1
    )


@torch.no_grad()
def test_a_model_trained_here_computes_the_same_in_transformers(
    trained_here: PretrainedModel, tmp_path: Path
) -> None:
    save_pretrained(trained_here, tmp_path / "ours", "card")
    convert(tmp_path / "ours", tmp_path / "hf", "hf-chameleon")
    model, report = ChameleonForConditionalGeneration.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    names = model.config.vocabulary_map
    tokenizer = Tokenizer.from_file(str(tmp_path / "hf/tokenizer.json"))
    theirs = [names["<s>"], *tokenizer.encode("a cow a").ids, names["<racm3:break>"]]
    theirs += [names[code_name(c)] for c in (3, 0, 15)]
    v = trained_here.vocabulary
    ours = [v.bos, *v.text_tokens(trained_here.text_tokenizer.encode("a cow a")), v.boi, 3, 0, 15]
    hidden = model.model(input_ids=torch.tensor([theirs])).last_hidden_state
    expected = trained_here.model(torch.tensor([ours]))
    assert (hidden - expected).abs().max() <= 1e-5
    logits = trained_here.model.head(expected)[0]
    foreign = model.lm_head(hidden)[0]
    assert (logits[:, v.image_range] - foreign[:, 4:20]).abs().max() <= 1e-4
    assert (logits[:, v.eos] - foreign[:, names["</s>"]]).abs().max() <= 1e-4
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    codes = trained_here.image_tokenizer.network.encode(pixels).flatten()
    assert torch.equal(model.model.get_image_tokens(pixels)[0], codes + names[code_name(0)])


def test_a_model_trained_here_goes_to_metas_layout_and_back(
    trained_here: PretrainedModel, tmp_path: Path
) -> None:
    save_pretrained(trained_here, tmp_path / "odd", "card")
    with pytest.raises(CheckpointError, match="names <s> itself"):
        convert(tmp_path / "odd", tmp_path / "x", "meta-chameleon")
    content = tiny_tokenizer_json({"<unk>": 0, "the": 1, "a": 2, "cow": 3})
    text = HuggingFaceTokenizer(content.encode())
    save_pretrained(replace(trained_here, text_tokenizer=text), tmp_path / "ours", "card")
    convert(tmp_path / "ours", tmp_path / "meta", "meta-chameleon")
    convert(tmp_path / "meta", tmp_path / "again", "genvlm")
    before, after = (load_tensors(tmp_path / n / "model.safetensors") for n in ("ours", "again"))
    for name in before.keys() - {"embedding.weight", "head.proj.weight"}:
        assert torch.equal(before[name], after[name]), name
    params = json.loads((tmp_path / "meta/models/model/params.json").read_text())["model"]
    assert params["vocab_size"] == len(before["embedding.weight"]) - 2  # EOV and BOV stay here
    part = torch.load(tmp_path / "meta/models/model/consolidated.pth", weights_only=True)
    assert [n for n in part if "rope" in n] == ["rope.freqs"]  # which Meta's loader insists on
    # Meta's code finds the width of the feed-forward layer from these.
    hidden = int(params["ffn_dim_multiplier"] * int(2 * 4 * params["dim"] / 3))
    of = params["multiple_of"]
    assert of * ((hidden + of - 1) // of) == trained_here.model.config.intermediate_size


def test_a_model_that_chameleon_cannot_express_is_not_exported(tmp_path: Path) -> None:
    save_pretrained(tiny_pretrained(), tmp_path / "ours", "card")
    with pytest.raises(CheckpointError, match="has a SentencePiece tokenizer"):
        convert(tmp_path / "ours", tmp_path / "x", "hf-chameleon")


@pytest.mark.parametrize(
    ("syntax", "said"),
    [(SyntaxConfig(num_gaps=2), "syntax.num_gaps"), (SyntaxConfig(max_side=3), "syntax.max_side")],
)
def test_a_syntax_that_chameleon_does_not_know_is_not_exported(
    trained_here: PretrainedModel, syntax: SyntaxConfig, said: str, tmp_path: Path
) -> None:
    vocabulary = build_vocabulary(trained_here.text_tokenizer, trained_here.image_tokenizer, syntax)
    model = build_transformer(trained_here.model.config, vocabulary.size, seed=3).eval()
    folder = tmp_path / "ours"
    save_pretrained(replace(trained_here, model=model, syntax=syntax), folder, "card")
    assert load_pretrained(folder).syntax == syntax
    with pytest.raises(CheckpointError, match=f"has {said}, which Chameleon"):
        convert(folder, tmp_path / "x", "hf-chameleon")


def test_a_model_with_video_is_not_exported(trained_here: PretrainedModel, tmp_path: Path) -> None:
    image = trained_here.image_tokenizer
    video = inflate(image, VideoVQConfig(image=image.config, encoder_width=8, decoder_width=8))
    # With a shared codebook the rows are as many.
    save_pretrained(replace(trained_here, video_tokenizer=video), tmp_path / "ours", "card")
    with pytest.raises(CheckpointError, match="has a video tokenizer, which Chameleon"):
        convert(tmp_path / "ours", tmp_path / "x", "hf-chameleon")


def test_parts_survive_the_way_over_hugging_face(tmp_path: Path) -> None:
    write_tiny_meta(tmp_path / "meta", num_parts=2)
    convert(tmp_path / "meta", tmp_path / "hf", "hf-chameleon")
    vqgan = tmp_path / "meta/tokenizer/vqgan.ckpt"
    convert(tmp_path / "hf", tmp_path / "ours", "genvlm", vqgan=vqgan)
    convert(tmp_path / "ours", tmp_path / "again", "meta-chameleon")
    for name in ("consolidated.00.pth", "consolidated.01.pth"):
        before = torch.load(tmp_path / "meta/models/7b" / name, weights_only=True)
        after = torch.load(tmp_path / "again/models/model" / name, weights_only=True)
        same_tensors(before | {"rope.freqs": after["rope.freqs"]}, after)


def test_a_model_that_lost_its_origin_is_not_written_with_wrong_ids(tmp_path: Path) -> None:
    write_tiny_meta(tmp_path / "meta")
    convert(tmp_path / "meta", tmp_path / "ours", "genvlm")
    save_pretrained(load_pretrained(tmp_path / "ours"), tmp_path / "later", "card")
    with pytest.raises(CheckpointError, match="has lost the origin folder"):
        convert(tmp_path / "later", tmp_path / "x", "hf-chameleon")
    with pytest.raises(CheckpointError, match="is a model folder already"):
        convert(tmp_path / "ours", tmp_path / "x", "genvlm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["later", "meta", "ours"]


def test_only_listed_files_of_an_origin_are_written_again(tmp_path: Path) -> None:
    write_tiny_huggingface(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours", "genvlm")
    (tmp_path / "ours/origin/files/stray.json").symlink_to("/etc/hostname")
    (tmp_path / "ours/origin/files/model.safetensors").write_bytes(b"not weights")
    convert(tmp_path / "ours", tmp_path / "again", "hf-chameleon")
    assert not (tmp_path / "again/stray.json").exists()
    same_tensors(read_sharded(tmp_path / "theirs"), read_sharded(tmp_path / "again"))


def test_a_conversion_that_fails_midway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_meta(tmp_path / "meta")
    convert(tmp_path / "meta", tmp_path / "ours", "genvlm")

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        convert(tmp_path / "ours", tmp_path / "again", "meta-chameleon")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["meta", "ours"]

"""Folders of transformers: what is read, what is refused, what the fingerprint follows."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genvlm.errors import CheckpointError, ConfigError, EvaluationError, TokenError
from genvlm.scoring.contrastive import ContrastiveScorer, ForeignEmbedder
from genvlm.scoring.protocols import Grid
from genvlm.scoring.transformers_folder import is_foreign, kind_of, load_foreign
from genvlm.testing.foreign_models import (
    CONTEXT,
    write_tiny_chameleon,
    write_tiny_clip,
    write_tiny_llava,
    write_tiny_siglip,
)
from genvlm.testing.tiny import tiny_pairs

TEXT, IMAGE = tiny_pairs()[0]


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_tiny_clip(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (write_tiny_clip, "contrastive"),
        (write_tiny_siglip, "contrastive"),
        (write_tiny_llava, "image_text_to_text"),
        (write_tiny_chameleon, "image_text_to_text"),
    ],
)
def test_the_kind_is_told_by_the_configuration(
    write: Callable[[Path], Any], kind: str, tmp_path: Path
) -> None:
    write(tmp_path)
    assert is_foreign(tmp_path)
    assert kind_of(tmp_path) == kind


def test_a_name_that_is_nowhere_is_no_foreign_model() -> None:
    for name in ("nowhere", "some/where", "/no/such/folder", "a/b/c", "openai/no-such-clip"):
        assert not is_foreign(name)


def test_a_name_in_the_cache_is_read_without_the_network(tmp_path: Path) -> None:
    cached = tmp_path / "models--some--clip"
    write_tiny_clip(cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    code = (
        "from genvlm.scoring.open import open_scorer\n"
        "from genvlm.scoring.transformers_folder import is_foreign\n"
        "print(is_foreign('some/clap'), open_scorer('some/clip').info.fingerprint)"
    )
    # Where the cache lies is read when huggingface_hub is imported.
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"HF_HUB_CACHE": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    local = ContrastiveScorer(
        ForeignEmbedder(load_foreign(cached / "snapshots" / "abc", "contrastive"))
    )
    assert ran.stdout.split() == ["False", local.info.fingerprint]


def test_what_is_nowhere_says_that_nothing_is_downloaded() -> None:
    with pytest.raises(CheckpointError, match=r"openai/no-such-clip.*nothing is downloaded"):
        load_foreign("openai/no-such-clip", "contrastive")


def test_another_kind_is_named(clip: Path) -> None:
    with pytest.raises(ConfigError, match="kind contrastive, and image_text_to_text is needed"):
        load_foreign(clip, "image_text_to_text")


def test_a_model_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="type 'llama'"):
        kind_of(tmp_path)


def test_pickled_weights_are_not_read(clip: Path) -> None:
    torch.save(load_file(clip / "model.safetensors"), clip / "pytorch_model.bin")
    (clip / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors"):
        load_foreign(clip, "contrastive")


def test_code_of_a_folder_does_not_run(clip: Path) -> None:
    (clip / "evil.py").write_text("raise SystemExit('ran')")
    edit_json(clip / "config.json", model_type="unheard-of", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(CheckpointError, match="no code of a folder runs"):
        load_foreign(clip, "contrastive")


def test_a_device_that_is_none_is_named(clip: Path) -> None:
    with pytest.raises(ConfigError, match="device 'abacus'"):
        load_foreign(clip, "contrastive", device="abacus")


def test_a_model_with_an_encoder_for_texts_is_refused(tmp_path: Path) -> None:
    write_tiny_llava(tmp_path)
    edit_json(tmp_path / "config.json", is_encoder_decoder=True)
    with pytest.raises(ConfigError, match="one decoder"):
        load_foreign(tmp_path, "image_text_to_text")


def test_random_numbers_do_not_replace_missing_tensors(clip: Path) -> None:
    tensors = load_file(clip / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors.*visual_projection"):
        load_foreign(clip, "contrastive")


def test_damaged_weights_are_refused(clip: Path) -> None:
    (clip / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="header"):
        load_foreign(clip, "contrastive")


def test_without_its_processor_a_folder_is_refused(clip: Path) -> None:
    (clip / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match="processor"):
        load_foreign(clip, "contrastive")


def test_without_transformers_the_extra_is_named(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'genvlm\[transformers\]'"):
        load_foreign(clip, "contrastive")


def test_a_folder_as_published_needs_no_torchvision(clip: Path) -> None:
    """Image processors stood in preprocessor_config.json, under names that torchvision now has."""
    grid = [Grid(item_id="a", images=[IMAGE], texts=[TEXT])]
    expected = ContrastiveScorer(ForeignEmbedder(load_foreign(clip, "contrastive")))
    content = json.loads((clip / "processor_config.json").read_text())["image_processor"]
    (clip / "processor_config.json").unlink()
    (clip / "preprocessor_config.json").write_text(
        json.dumps(content | {"image_processor_type": "CLIPImageProcessor"})
    )
    found = ContrastiveScorer(ForeignEmbedder(load_foreign(clip, "contrastive")))
    np.testing.assert_array_equal(found.score(grid)[0].values, expected.score(grid)[0].values)


def test_the_fingerprint_follows_weights_tokenizer_pixels_and_dtype(clip: Path) -> None:
    def fingerprint(**options: Any) -> str:
        return ContrastiveScorer(
            ForeignEmbedder(load_foreign(clip, "contrastive", **options))
        ).info.fingerprint

    seen = [fingerprint(), fingerprint(dtype="bfloat16")]
    edit_json(clip / "config.json", transformers_version="5.99.0", _name_or_path="elsewhere")
    rules = json.loads((clip / "tokenizer.json").read_text())
    # The state of the last call when it was saved: each call sets it anew.
    rules["truncation"] = {
        "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    (clip / "tokenizer.json").write_text(json.dumps(rules))
    assert fingerprint() == seen[0]

    rules["model"]["vocab"] |= {"red": 6, "a": 5, "blue": 7, "green": 8}
    (clip / "tokenizer.json").write_text(json.dumps(rules))
    seen.append(fingerprint())

    content = json.loads((clip / "processor_config.json").read_text())
    content["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    (clip / "processor_config.json").write_text(json.dumps(content))
    seen.append(fingerprint())

    edit_json(clip / "config.json", logit_scale_init_value=1.0)
    seen.append(fingerprint())

    tensors = load_file(clip / "model.safetensors")
    tensors["visual_projection.weight"][0, 0] += 1e-3
    save_file(tensors, clip / "model.safetensors", metadata={"format": "pt"})
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("write", [write_tiny_clip, write_tiny_siglip])
def test_a_text_beyond_the_context_is_named_and_not_cut(
    write: Callable[[Path], Any], tmp_path: Path
) -> None:
    write(tmp_path)
    foreign = load_foreign(tmp_path, "contrastive")
    scorer = ContrastiveScorer(ForeignEmbedder(foreign))
    control = len(foreign.processor.tokenizer("")["input_ids"])
    fitting = " ".join(["red"] * (CONTEXT - control))
    (scores,) = scorer.score([Grid(item_id="fits", images=[IMAGE], texts=[fitting])])
    assert np.isfinite(scores.values).all()
    grids = [
        Grid(item_id="short", images=[IMAGE], texts=["red"]),
        Grid(item_id="long-7", images=[IMAGE], texts=["blue", fitting + " red"]),
    ]
    with pytest.raises(TokenError, match=rf"long-7.*{CONTEXT + 1} tokens.*{CONTEXT} that.*sh"):
        scorer.score(grids)


def test_clipscore_adds_its_prefix_and_cuts_below_zero(clip: Path) -> None:
    foreign = load_foreign(clip, "contrastive")
    texts = [text for text, _ in tiny_pairs()]
    images = [image for _, image in tiny_pairs()]
    prefixed = Grid(item_id="a", images=images, texts=["A photo depicts " + t for t in texts])
    (cosines,) = ContrastiveScorer(ForeignEmbedder(foreign)).score([prefixed])
    scorer = ContrastiveScorer(ForeignEmbedder(foreign), "clipscore")
    (scores,) = scorer.score([Grid(item_id="a", images=images, texts=texts)])
    np.testing.assert_allclose(scores.values, 2.5 * np.maximum(cosines.values, 0), atol=1e-6)
    assert scorer.info.unit == "arbitrary"
    assert scorer.info.settings["template"] == "A photo depicts {text}"


def test_each_distinct_image_and_text_is_encoded_once(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = ForeignEmbedder(load_foreign(clip, "contrastive"))
    scorer = ContrastiveScorer(embedder, batch_size=4)
    encoded: list[int] = []
    for name in ("embed_images", "embed_texts"):
        embed = getattr(embedder, name)

        def counted(part: Any, embed: Callable[[Any], Any] = embed) -> Any:
            encoded.append(len(part))
            return embed(part)

        monkeypatch.setattr(embedder, name, counted)
    pairs = tiny_pairs()[:6]
    grids = [
        Grid(item_id=str(i), images=[image.copy()], texts=[text for text, _ in pairs])
        for i, (_, image) in enumerate([*pairs, *pairs])
    ]
    scorer.score(grids)
    assert encoded == [4, 2, 4, 2]


def test_a_text_that_spells_a_control_token_is_refused(clip: Path) -> None:
    scorer = ContrastiveScorer(ForeignEmbedder(load_foreign(clip, "contrastive")))
    with pytest.raises(TokenError, match=r"item-3.*control token '</s>'"):
        scorer.score([Grid(item_id="item-3", images=[IMAGE], texts=["a red </s> square"])])


def test_an_embedding_that_is_no_number_is_an_error(clip: Path) -> None:
    foreign = load_foreign(clip, "contrastive")
    foreign.model.visual_projection.weight.zero_()
    with pytest.raises(EvaluationError, match="item-3"):
        ContrastiveScorer(ForeignEmbedder(foreign)).score(
            [Grid(item_id="item-3", images=[IMAGE], texts=[TEXT])]
        )


def test_pictures_of_few_rows_are_not_taken_for_channels(clip: Path) -> None:
    scorer = ContrastiveScorer(ForeignEmbedder(load_foreign(clip, "contrastive")))
    thin = np.random.default_rng(0).integers(0, 256, (3, 8, 3), np.uint8)
    wide = np.repeat(np.repeat(thin, 8, 0), 8, 1)
    (scores,) = scorer.score([Grid(item_id="a", images=[thin, wide], texts=[TEXT])])
    assert abs(scores.values[0, 0] - scores.values[1, 0]) < 0.2

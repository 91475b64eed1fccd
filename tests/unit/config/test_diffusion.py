"""Configurations of diffusion models: what fits together, and what a wrong one is told."""

from typing import Any

import pytest

from genvlm.config.diffusion import DiffusionConfig, DiTConfig, UNetConfig
from genvlm.config.schema import parse_config, to_plain
from genvlm.errors import ConfigError

DIT = {"kind": "dit", "hidden_size": 16, "num_layers": 1, "num_heads": 2}
UNET: dict[str, Any] = {
    "kind": "unet", "block_out_channels": [8, 16], "attention": [False, True],
    "head_dim": 8, "norm_num_groups": 4,
}  # fmt: skip
TEXT = {"kind": "small", "hidden_size": 16, "num_layers": 1, "num_heads": 2}
MODEL = {"network": DIT, "text_encoder": TEXT, "latents": {"kind": "pixels", "side": 8}}


def message(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(DiffusionConfig, content, "my.yaml")
    return str(raised.value)


def test_the_kind_of_each_part_chooses_its_class() -> None:
    assert isinstance(parse_config(DiffusionConfig, MODEL, "x").network, DiTConfig)
    config = parse_config(DiffusionConfig, MODEL | {"network": UNET}, "x")
    assert isinstance(config.network, UNetConfig)
    assert parse_config(DiffusionConfig, to_plain(config), "x") == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attention": [True]}, "attention names 1 levels and block_out_channels 2"),
        ({"norm_num_groups": 5}, "8 of block_out_channels is not a multiple of norm_num_groups 5"),
        ({"head_dim": 12}, "16 of block_out_channels is not a multiple of head_dim 12"),
        # What lies under the last level attends whether the level does or not.
        ({"attention": [False, False], "head_dim": 12}, "16 of block_out_channels"),
        ({"block_out_channels": [], "attention": []}, "block_out_channels"),
    ],
)
def test_a_unet_that_cannot_be_built_is_refused(change: dict[str, Any], said: str) -> None:
    assert said in message(MODEL | {"network": UNET | change})


def test_a_dit_or_text_encoder_whose_heads_do_not_fit_is_refused() -> None:
    assert "hidden_size 18" in message(MODEL | {"network": DIT | {"hidden_size": 18}})
    assert "twice num_heads 3" in message(MODEL | {"text_encoder": TEXT | {"num_heads": 3}})


def test_noise_cannot_be_predicted_where_no_signal_is_left() -> None:
    flow = MODEL | {"schedule": {"kind": "flow"}}
    assert "ends without signal" in message(flow | {"prediction": "epsilon"})
    for prediction in ("flow", "v_prediction"):
        parse_config(DiffusionConfig, flow | {"prediction": prediction}, "x")


def test_a_kind_that_there_is_not_is_named_with_its_key() -> None:
    assert "network" in message(MODEL | {"network": {"kind": "mlp"}})
    assert "schedule.kind" in message(MODEL | {"schedule": {"kind": "sigmoid"}})
    assert "schedule.num_levels" in message(MODEL | {"schedule": {"num_levels": 1}})

"""What a wrong YAML file is told: the path of the key as it stands in the file, and the mend."""

import re
import string
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.cli.overrides import load_with_overrides
from genvlm.config.data import DataConfig, ScenesSource
from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.kinds import config_class
from genvlm.config.schema import dump_config, load_config, parse_config, read_yaml
from genvlm.config.training import OptimizerConfig, TrainConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import ConfigError

SHAPE = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "context_length": 64,
}


@dataclass(frozen=True)
class Anything:
    """A configuration that takes every plain value."""

    content: dict[str, str | int | float | bool | None]


def _message(cls: type, content: object) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(cls, content, "my.yaml")
    message = str(raised.value)
    assert message.startswith("my.yaml: ")
    assert "\n" not in message
    return message


def test_a_misspelt_required_key_is_told_its_spelling_rather_than_that_it_is_missing() -> None:
    shape = dict(SHAPE)
    shape["num_layer"] = shape.pop("num_layers")
    message = _message(TransformerConfig, shape)
    assert "unknown key 'num_layer'; did you mean 'num_layers'?" in message
    assert "more problem" not in message


def test_other_problems_are_counted_beside_a_misspelt_required_key() -> None:
    shape = SHAPE | {"head_dim": "wide", "num_layer": 2}
    del shape["num_layers"], shape["num_heads"]
    assert "(2 more problems)" in _message(TransformerConfig, shape)


def test_a_list_whose_only_item_is_wrong_is_one_problem() -> None:
    assert "more problem" not in _message(DataConfig, {"sources": [{"kind": "scenes"}]})


def test_an_unknown_key_that_resembles_none_gets_no_suggestion() -> None:
    message = _message(TransformerConfig, SHAPE | {"zzz": 1})
    assert "unknown key 'zzz'" in message
    assert "did you mean" not in message


def test_a_missing_key_is_named() -> None:
    shape = {key: value for key, value in SHAPE.items() if key != "head_dim"}
    assert "key 'head_dim' is missing" in _message(TransformerConfig, shape)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "scenes"}, "key 'sources.1.num' is missing"),
        ({"kind": "scenes", "num": "many"}, "key 'sources.1.num': Input should be a valid integer"),
        ({"kind": "scenes", "num": 1, "vendor": "noto"}, "unknown key 'sources.1.vendor'"),
        ({"kind": "scenes", "num": 1, "vendors": ["apple"]}, "key 'sources.1.vendors.0'"),
        ({"kind": "scenez", "num": 1}, "key 'sources.1': no kind 'scenez': choose one of scenes, "),
        ({"num": 1}, "key 'sources.1' needs a 'kind', got {'num': 1}"),
        ("scenes", "key 'sources.1'"),
    ],
)
def test_the_path_holds_only_keys_of_the_file(source: object, said: str) -> None:
    content = {"sources": [{"kind": "scenes", "num": 1}, source]}
    assert said in _message(DataConfig, content)


def test_a_list_without_items_is_told_how_many_it_must_hold() -> None:
    assert "key 'sources' must hold 1 or more, got []" in _message(DataConfig, {"sources": []})


@pytest.mark.parametrize("value", ["wide", "32", None, 1.5, True, [1], {"a": 1}])
def test_a_wrong_type_is_named_with_the_value(value: object) -> None:
    message = _message(TransformerConfig, SHAPE | {"hidden_size": value})
    assert "key 'hidden_size'" in message
    assert repr(value) in message


def test_numbers_are_read_as_in_yaml_1_2(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    numbers = {
        "3e-3": 0.003, "1E5": 1e5, "-.5e+2": -50.0, "2.5": 2.5, "2.": 2.0, "010": 10, "-3": -3,
        "0o17": 15, "0x1f": 31, "true": True, "~": None,
    }  # fmt: skip
    texts = ["e3", "3e", "1_000", "1:30", "2020-01-01", "2020-13-45", "yes", "on", "0b1"]
    file.write_text("".join(f"- {text}\n" for text in [*numbers, *texts]).replace("- ", "  - "))
    file.write_text("all:\n" + file.read_text())
    read = read_yaml(file)["all"]
    assert read == [*numbers.values(), *texts]
    assert [type(x) for x in read] == [type(x) for x in [*numbers.values(), *texts]]


@given(
    st.dictionaries(
        st.text(string.ascii_letters, min_size=1),
        st.one_of(
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
            st.from_regex(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", fullmatch=True),
            st.sampled_from(["true", "null", "~", "0o7", "1:30", "2020-01-01", "yes", "", ".inf"]),
            st.integers(), st.booleans(), st.none(),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
    )
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_what_is_dumped_is_read_back(content: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(dump_config(Anything(content=content)), encoding="utf-8")
        assert read_yaml(path)["content"] == content


def test_a_key_given_twice_is_an_error_at_any_depth(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model:\n  width: 1\n  depth: 2\n  width: 3\n")
    with pytest.raises(ConfigError, match=r"a\.yaml.*'width' is given twice.*line 2"):
        read_yaml(file)


@pytest.mark.parametrize(
    "text", ["a: &x [*x]", "? [1, 2]\n: 3", "? {a: 1}\n: 3", "a: " + "[" * 3000 + "]" * 3000]
)
def test_yaml_that_no_configuration_can_be_gets_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"my\.yaml"):
        load_config(DataConfig, path)


@pytest.mark.parametrize("kind", ["[a]", "3", "vae", "{}"])
def test_a_kind_that_there_is_not_is_told_the_kinds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"kind: {kind}\n")
    with pytest.raises(ConfigError, match=r"choose one of mixed_modal, diffusion, .*vqgan"):
        config_class(path)


@pytest.mark.parametrize(
    ("cls", "content"),
    [
        (TransformerConfig, SHAPE | {"num_layers": -2}),
        (TransformerConfig, SHAPE | {"num_kv_heads": 0}),
        (TransformerConfig, SHAPE | {"dropout": 1.5}),
        (OptimizerConfig, {"learning_rate": float("nan")}),
        (OptimizerConfig, {"learning_rate": float("inf")}),
        (ScenesSource, {"num": 1, "vendors": []}),
        (DataConfig, {"sources": []}),
        (DataConfig, {"sources": [{"kind": "scenes", "num": 1}], "condition_dropout": 1.1}),
        (VQGANConfig, {"resolution": 64, "patch_size": 0}),
    ],
)
def test_impossible_numbers_are_refused(cls: type, content: object) -> None:
    _message(cls, content)


def test_overrides_are_checked_as_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(dump_config(parse_config(TransformerConfig, SHAPE, "x")))
    config = load_with_overrides(TransformerConfig, path, ["--num-layers", "3"])
    assert config.num_layers == 3
    for wrong in (["--num-kv-heads", "0"], ["--dropout", "nan"], ["--head-dim", "7"]):
        with pytest.raises(ConfigError, match="command line: "):
            load_with_overrides(TransformerConfig, path, wrong)


def test_a_negative_seed_is_refused() -> None:
    assert "greater than or equal to 0" in _message(ScenesSource, {"num": 1, "seed": -1})


@pytest.mark.parametrize("content", [{}, {1: 2}, {"model": 3}])
def test_no_content_escapes_as_another_error(content: dict[object, object]) -> None:
    _message(TrainConfig, content)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_kv_heads": 3}, "num_heads 2 is not a multiple of num_kv_heads 3"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
    ],
)
def test_an_impossible_transformer_is_refused(changes: dict[str, int], said: str) -> None:
    assert said in _message(TransformerConfig, SHAPE | changes)


def test_an_impossible_image_tokenizer_is_refused() -> None:
    assert "downsample factor 16" in _message(VQGANConfig, {"resolution": 60})
    assert "multiple of 32" in _message(VQGANConfig, {"resolution": 64, "channels": 48})


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "a: \0", "!!python/object:os.system {}", "*x"]
)
def test_text_that_is_not_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"my\.yaml is not valid YAML") as raised:
        read_yaml(path)
    assert not re.search(r"<unicode string>|\^|\n", str(raised.value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: 3\n kind: vqgan\n", "mapping values are not allowed here at line 2, column 6"),
        (
            "a: [1",
            "while parsing a flow sequence, expected ',' or ']', but got '<stream end>' at line 1",
        ),
    ],
)
def test_text_that_is_not_yaml_is_told_what_and_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_yaml(path)
    assert f"my.yaml is not valid YAML: {said}" in str(raised.value)


@pytest.mark.parametrize("text", ["", "3", "- a", "# only a comment"])
def test_yaml_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"my\.yaml must hold a mapping"):
        read_yaml(path)


def test_a_file_that_is_missing_or_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    for place in (path, tmp_path):
        with pytest.raises(ConfigError, match="no configuration at"):
            read_yaml(place)
    path.write_bytes("text: Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"my\.yaml is not UTF-8"):
        read_yaml(path)


def test_what_is_not_a_default_survives_a_dump(tmp_path: Path) -> None:
    config = DataConfig(
        sources=(ScenesSource(num=3, vendors=("fluent", "noto"), three=1e-7),),
        condition_dropout=3e-4,
    )
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(DataConfig, path) == config
    assert yaml.safe_load(path.read_text())["sources"][0]["kind"] == "scenes"


def test_configurations_cannot_be_altered() -> None:
    config = TransformerConfig(**SHAPE)
    with pytest.raises(AttributeError):
        config.hidden_size = 3  # type: ignore[misc]

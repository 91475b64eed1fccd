"""Reading and writing configurations: strict YAML in, resolved YAML out.

Every configuration class is a plain frozen dataclass; `@strict` only tells pydantic to refuse
unknown keys. Errors name the file, the path of the key and the nearest known key.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from genvlm.errors import ConfigError, GenvlmError

T = TypeVar("T")
Count = Annotated[int, Field(ge=0)]
Seed = Count
Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
"""Share that a moving average keeps."""
Probability = Annotated[float, Field(ge=0, le=1)]
# Types of pydantic's errors.
_UNKNOWN = "unexpected_keyword_argument"
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")


def strict(cls: type[T]) -> type[T]:
    """Class decorator: unknown keys of this dataclass are errors."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]
    return cls


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of version 1.2; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Leading zeros are decimal, 0o is octal."""
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        return int(node.value, base)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that the loader would take for something else."""


# The core schema of YAML 1.2: 3e-3 is a number, 010 is ten, and 1:30, yes, 2020-01-01 are texts.
_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _name, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), list(_first)
        )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError: missing, not UTF-8, not YAML, no mapping."""
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}: check the path")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_marked(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        what = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise ConfigError(f"{path} is not valid YAML: {what}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply to be a configuration") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values")
    return content


def _marked(error: yaml.MarkedYAMLError) -> str:
    """What PyYAML says of a place in the file, without the name and excerpt of its stream."""
    mark = error.problem_mark or error.context_mark
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{said} at line {mark.line + 1}, column {mark.column + 1}" if mark else said


def parse_config(cls: type[T], content: object, source: str) -> T:
    """Build `cls` from plain data.

    Raises:
        ConfigError: one sentence for the first problem, with the path of the key.
    """
    try:
        # As JSON, because pydantic is strict there without refusing lists for tuples.
        return TypeAdapter(cls).validate_json(json.dumps(content), strict=True)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise ConfigError(f"{source}: {_sentence(cls, error, content)}") from None
        raise ConfigError(f"{source} holds what no configuration can hold: {error}") from None
    except GenvlmError as error:
        raise ConfigError(f"{source}: {error}") from None


def load_config(cls: type[T], path: Path) -> T:
    """Read one YAML file as `cls`. Raises ConfigError."""
    return parse_config(cls, read_yaml(path), str(path))


def dump_config(config: Any) -> str:
    """The resolved configuration as YAML, in the order of its fields."""
    return yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def to_plain(config: Any) -> Any:
    """Dataclasses to dictionaries, tuples to lists."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _sentence(cls: type, error: ValidationError, content: object) -> str:
    known = sorted(_known_keys(cls))
    problems = _problems(error, known)
    first = min(problems, key=lambda e: e["type"] != _UNKNOWN)
    location = _keys_of_file(first["loc"], content)
    path = ".".join(location)
    others = len(problems) - 1
    more = f" ({others} more problem{'s' if others > 1 else ''})" if others else ""
    if first["type"] == _UNKNOWN:
        near = _nearest(location[-1], known)
        hint = f"; did you mean {near!r}?" if near else ""
        return f"unknown key {path!r}{hint}{more}"
    if first["type"] in _MISSING:
        return f"key {path!r} is missing{more}"
    if first["type"] == "union_tag_invalid":
        kinds = first["ctx"]["expected_tags"].replace("'", "")
        return f"key {path!r}: no kind {first['ctx']['tag']!r}: choose one of {kinds}{more}"
    if first["type"] == "union_tag_not_found":
        return f"key {path!r} needs a 'kind', got {first['input']!r}{more}"
    if first["type"] == "too_short":
        least = first["ctx"]["min_length"]
        return f"key {path!r} must hold {least} or more, got {first['input']!r}{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"key {path!r}: {message}, got {first['input']!r}{more}"


def _problems(error: ValidationError, known: Sequence[str]) -> list[ErrorDetails]:
    """The errors without those that pydantic tells of the same mistake a second time."""
    errors = error.errors()
    # A misspelt required key is also missing: its spelling is what to mend.
    meant = {
        (*e["loc"][:-1], _nearest(str(e["loc"][-1]), known))
        for e in errors
        if e["type"] == _UNKNOWN
    }
    return [
        e
        for e in errors
        if not (e["type"] in _MISSING and e["loc"] in meant)
        # A tuple lacks the items that failed.
        and not (e["type"] == "too_short" and len(e["input"]) >= e["ctx"]["min_length"])
    ]


def _nearest(key: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, known, n=1)), None)


def _keys_of_file(location: tuple[int | str, ...], content: Any) -> list[str]:
    """The location without the tags of discriminated unions, which are no keys of the file."""
    keys = []
    for number, part in enumerate(location, 1):
        if isinstance(content, dict):
            if part not in content and number < len(location):
                continue
            content = content.get(part)
        elif isinstance(content, list | tuple) and isinstance(part, int):
            content = content[part]
        keys.append(str(part))
    return keys


def _known_keys(cls: Any) -> set[str]:
    """Field names of a dataclass and of all that it holds."""
    if dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls)
        names = {f.name for f in dataclasses.fields(cls)}
        return names.union(*(_known_keys(h) for h in hints.values()))
    if get_origin(cls) is not None or isinstance(cls, type(Union)):
        return set().union(*(_known_keys(a) for a in get_args(cls)))
    return set()

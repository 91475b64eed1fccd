"""Reading and writing configurations: strict YAML in, resolved YAML out.

Every configuration class is a plain frozen dataclass; `@strict` only tells pydantic to refuse
unknown keys. Errors name the file, the path of the key and the nearest known key.
"""

import dataclasses
import difflib
import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from genvlm.errors import ConfigError, GenvlmError

T = TypeVar("T")
Seed = Annotated[int, Field(ge=0)]


def strict(cls: type[T]) -> type[T]:
    """Class decorator: unknown keys of this dataclass are errors."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return cls


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error and 3e-3 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError: missing, not UTF-8, not YAML, no mapping."""
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}: check the path")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-45
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values")
    return content


def parse_config(cls: type[T], content: object, source: str) -> T:
    """Build `cls` from plain data.

    Raises:
        ConfigError: one sentence for the first problem, with the path of the key.
    """
    try:
        # As JSON, because pydantic is strict there without refusing lists for tuples.
        return TypeAdapter(cls).validate_json(json.dumps(content, default=str), strict=True)
    except GenvlmError as error:
        raise ConfigError(f"{source}: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{source}: {_sentence(cls, error, content)}") from None


def load_config(cls: type[T], path: Path) -> T:
    """Read one YAML file as `cls`. Raises ConfigError."""
    return parse_config(cls, read_yaml(path), str(path))


def dump_config(config: Any) -> str:
    """The resolved configuration as YAML, in the order of its fields."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)


def to_plain(config: Any) -> Any:
    """Dataclasses to dictionaries, tuples to lists."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _sentence(cls: type, error: ValidationError, content: object) -> str:
    # A misspelt required key is also missing: its spelling is what to mend.
    first = min(error.errors(), key=lambda e: e["type"] != "unexpected_keyword_argument")
    location = _keys_of_file(first["loc"], content)
    path = ".".join(location)
    more = f" ({error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
    if first["type"] == "unexpected_keyword_argument":
        known = sorted(_known_keys(cls))
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key {path!r}{hint}{more}"
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"key {path!r} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"key {path!r}: {message}, got {first['input']!r}{more}"


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

"""`genvlm data shard`: the sources of a run, tokenised once into memory-mapped shards."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, positive, progress_bar

if TYPE_CHECKING:
    from genvlm.config.training import TrainConfig
    from genvlm.data.sources import NumberedSource
    from genvlm.data.tokenising import Tokenizers

_ROW_LENGTHS = (512, 1024, 4096)


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "shard",
        run,
        summary="Tokenise the sources of a run's configuration, copies and all, into shards that "
        "`{kind: shards, path: DIR}` trains from. Memory does not grow with the sources; what was "
        "cut off goes on when the same command runs again.",
        example="genvlm data shard configs/train/own-pictures.yaml --out data/tokens",
    )
    parser.add_argument(
        "config", help="YAML of a run, or the name of a shipped one; its keys can be overridden"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument(
        "--samples-per-shard", type=positive, default=2**17,
        help="most; a shard of 16 M tokens ends before (131,072)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.set_defaults(takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Shard and say what was written, and how full its rows would be."""
    from genvlm.cli.overrides import load_with_overrides
    from genvlm.config.assets import resolve_path
    from genvlm.config.kinds import config_class
    from genvlm.config.training import TrainConfig
    from genvlm.data.sharding import write_shards
    from genvlm.errors import ConfigError
    from genvlm.training.loop import load_tokenizers

    _check_folder(arguments.out)
    path = resolve_path(arguments.config)
    if config_class(path) is not TrainConfig:
        raise ConfigError(f"{path} is no run of a mixed-modal transformer: name one")
    config = load_with_overrides(TrainConfig, path, arguments.overrides)
    tokenizers = load_tokenizers(config)
    with progress_bar("encoding pictures and clips") as bar:
        index = write_shards(
            _raw_sources(config),
            tokenizers,
            arguments.out,
            samples_per_shard=arguments.samples_per_shard,
            max_bad_share=config.data.max_bad_share,
            progress=bar,
        )
    used = _positions_used(config, tokenizers, arguments.out)
    if arguments.json:
        print(json.dumps({**index.summary(), "positions_used": used}))
        return 0
    for name, value in index.summary().items():
        print(f"{name:10} {value:>15,}")
    for name, share in used.items():
        print(f"positions that hold a token, {name}: {share:.1%}")
    print(arguments.out)
    return 0


def _check_folder(folder: Path) -> None:
    """Raises ConfigError: a file, or a folder that holds other things than shards."""
    from genvlm.data.shards import INDEX_FILE, UNFINISHED_FILE
    from genvlm.errors import ConfigError

    check_output_folder(folder)
    if not folder.exists() or any(
        (folder / name).is_file() for name in (INDEX_FILE, UNFINISHED_FILE)
    ):
        return
    # What is left where the first shard was cut off has no index yet.
    left = (".*", "shard-*.safetensors*", f"{UNFINISHED_FILE}.*")
    for path in sorted(folder.iterdir()):
        if not any(path.match(pattern) for pattern in left):
            raise ConfigError(
                f"--out {folder} holds {path.name} and no shards: name an empty or a new folder"
            )


def _raw_sources(config: "TrainConfig") -> "list[NumberedSource]":
    from genvlm.config.data import ShardsSource
    from genvlm.errors import ConfigError

    sources = []
    for number, source in enumerate(config.data.sources):
        if isinstance(source, ShardsSource):
            raise ConfigError(f"data.sources.{number} is shards already: leave it out")
        sources.append((number, source))
    return sources


def _positions_used(
    config: "TrainConfig", tokenizers: "Tokenizers", folder: Path
) -> dict[str, float]:
    """Shares by how the rows are filled: for the choice of `data.packing` and a context."""
    from genvlm.config.data import ShardsSource
    from genvlm.data.corpus import build_corpus
    from genvlm.errors import ConfigError, GenvlmError
    from genvlm.training.loop import build_source

    # By size: weights are of the sources that were sharded, not of the one folder.
    data = replace(
        config.data,
        sources=(ShardsSource(path=str(folder)),),
        weights=None,
        packing=False,
        retrieval=None,
    )
    source = build_source(
        replace(config, data=data), tokenizers, build_corpus(data, tokenizers, None)
    )
    try:
        source.check()
    except GenvlmError as error:
        raise ConfigError(
            f"{folder} is written, but {config.global_batch_size} rows of "
            f"{config.model.context_length} tokens do not fit it: {error}"
        ) from None
    length = config.model.context_length
    lengths = [length, *(n for n in _ROW_LENGTHS if n > length)]
    return {
        "a document a row": source.share_used(),
        **{f"packed into rows of {n}": source.share_packed(n) for n in lengths},
    }

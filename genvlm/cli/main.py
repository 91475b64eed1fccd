"""`genvlm COMMAND ...`: dispatch, and what an error looks like. Imports torch only when running."""

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from genvlm import __version__
from genvlm.cli import (
    bench,
    classify,
    compare,
    config,
    convert,
    data,
    demo,
    edit,
    evaluate,
    generate,
    inpaint,
    plan,
    report,
    rollout,
    score,
    surprise,
    train,
)
from genvlm.errors import CheckpointWarning, DataWarning, GenvlmError, GuidanceWarning
from genvlm.training.launch import leave
from genvlm.training.stopping import Terminated, terminable

_COMMANDS = (
    train, plan, generate, rollout, inpaint, edit, score, surprise, classify, evaluate, config,
    report, convert, data, demo, bench, compare,
)  # fmt: skip
_SHOW_WARNING = warnings.showwarning
USER_ERROR, OUR_FAULT, INTERRUPTED = 2, 1, 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="genvlm",
        description="Generative vision-language world models: train one mixed-modal transformer, "
        "then generate, score, classify and evaluate with its likelihood.",
        epilog="Each command has its own --help with an example.",
    )
    parser.add_argument("--version", action="version", version=f"genvlm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done; 2: mend the input; 1: a fault of genvlm; 130: Ctrl-C; 143: SIGTERM.
    """
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not getattr(arguments, "takes_overrides", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.overrides = rest
    warnings.showwarning = _show_warning
    try:
        with terminable():
            return int(arguments.run(arguments) or 0)
    except GenvlmError as error:
        print(f"genvlm: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", USER_ERROR))
    except KeyboardInterrupt:
        print("genvlm: interrupted; what was written before is complete", file=sys.stderr)
        return INTERRUPTED
    except Terminated as end:
        print("genvlm: stopped by SIGTERM; what was written before is complete", file=sys.stderr)
        return end.exit_code
    except BrokenPipeError:
        return OUR_FAULT
    except OSError as error:  # a folder that is a file, no permission, a full disk
        where = f" ({error.filename})" if error.filename else ""
        print(f"genvlm: {error.strerror or error}{where}: check paths and space", file=sys.stderr)
        return USER_ERROR
    except Exception:
        traceback.print_exc()
        print("genvlm: this is a fault of genvlm, not of your input", file=sys.stderr)
        return OUR_FAULT


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    """Ours as one sentence; those of other libraries as ever."""
    if isinstance(message, (CheckpointWarning, DataWarning, GuidanceWarning)):
        print(f"genvlm: warning: {message}", file=sys.stderr)
    else:
        _SHOW_WARNING(message, *details, **more)


def run_as_script() -> NoReturn:
    """Entry of the console script and of `python -m`."""
    leave(main())


if __name__ == "__main__":
    run_as_script()

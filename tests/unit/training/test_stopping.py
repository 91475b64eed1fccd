"""SIGTERM outside of the steps of a run."""

import signal

import pytest

from genvlm.errors import ConfigError
from genvlm.training.stopping import Terminated, terminable


def test_sigterm_ends_what_runs_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_that_other_code_made_of_it_is_still_the_end() -> None:
    """As pydantic does while it builds a schema: not a fault of ours, and exit code 143."""
    with pytest.raises(Terminated) as caught, terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise ValueError("Error building `tuple` serializer") from None
    assert isinstance(caught.value.__cause__, ValueError)


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), terminable():
        _ = 1 / 0
    with pytest.raises(ConfigError, match="mend it"), terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise ConfigError("mend it") from None

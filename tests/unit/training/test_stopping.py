"""SIGTERM outside of the steps of a run."""

import signal

import pytest

from genvlm.errors import ConfigError
from genvlm.training.stopping import Terminated, terminable


def terminated_as(error: Exception) -> None:
    """SIGTERM, of which other code makes an error of its own, as pydantic while it builds."""
    with terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise error from None


def test_sigterm_ends_what_runs_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_that_other_code_made_of_it_is_still_the_end() -> None:
    with pytest.raises(Terminated) as caught:
        terminated_as(ValueError("Error building `tuple` serializer"))
    assert isinstance(caught.value.__cause__, ValueError)


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), terminable():
        _ = 1 / 0
    with pytest.raises(ConfigError, match="mend it"):
        terminated_as(ConfigError("mend it"))

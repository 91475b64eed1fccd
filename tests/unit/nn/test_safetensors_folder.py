"""Signals wait until safetensors is done: it would turn what their handlers raise into its own."""

import signal
from contextlib import contextmanager

import pytest
import torch

from genvlm.nn import safetensors_folder
from genvlm.nn.safetensors_folder import load_tensors, save_tensors
from genvlm.training.stopping import Terminated, terminable


class _Struck:
    """An open file during each of whose reads SIGTERM arrives."""

    def __init__(self, file, read):
        self.file, self.read = file, read

    def keys(self):
        return self.file.keys()

    def get_tensor(self, name):
        signal.raise_signal(signal.SIGTERM)
        self.read.append(name)
        return self.file.get_tensor(name)


def test_a_signal_during_a_read_is_told_when_all_is_read(tmp_path, monkeypatch):
    save_tensors({"a": torch.ones(2), "b": torch.zeros(3)}, tmp_path / "weights")
    read: list[str] = []
    before, of_system = signal.getsignal(signal.SIGTERM), safetensors_folder.safe_open

    @contextmanager
    def struck(*arguments, **named):
        with of_system(*arguments, **named) as file:
            yield _Struck(file, read)

    monkeypatch.setattr(safetensors_folder, "safe_open", struck)
    with pytest.raises(Terminated), terminable():
        load_tensors(tmp_path / "weights")
    assert read == ["a", "b"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_during_a_write_is_told_when_all_is_written(tmp_path, monkeypatch):
    of_system = safetensors_folder.save_file

    def struck(*arguments):
        signal.raise_signal(signal.SIGTERM)
        of_system(*arguments)

    monkeypatch.setattr(safetensors_folder, "save_file", struck)
    with pytest.raises(Terminated), terminable():
        save_tensors({"a": torch.ones(2)}, tmp_path / "weights")
    assert (tmp_path / "weights.tmp").is_file()

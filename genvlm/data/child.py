"""A process that does what may crash, hang or eat memory, so that only it dies of that.

It reads requests from standard input and answers on standard output: a JSON object and bytes, both
ways. Nothing is unpickled, since whoever takes over the child would else take over its parent.
"""

import contextlib
import json
import os
import resource
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_LENGTHS = struct.Struct("<QQ")
_MAX_JSON = 1 << 20
_START = 60.0
"""Seconds that a child may take for its imports."""

Answer = tuple[dict[str, Any], bytes | bytearray]
"""What is said, and bytes: pixels."""


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """What one request may use."""

    seconds: float = 20.0
    """Of the clock; of the processor, half of them."""
    memory: int = 1 << 30
    """Bytes of address space beyond those of a child without work."""
    answer: int = 1 << 30
    """Bytes of an answer."""


class ChildFailed(Exception):  # noqa: N818  it says what became of the child
    """The child crashed, or used more than it may. Its text ends a sentence: "took over 20 s"."""


class Child:
    """One process of `module`, started when it is first asked, and again after it failed.

    Args:
        module: a module whose main program calls `serve`.
    """

    def __init__(self, module: str, limits: ChildLimits) -> None:
        self._module, self._limits = module, limits
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of its process; None: there is none now."""
        return None if self._process is None else self._process.pid

    def ask(self, request: dict[str, Any], content: bytes = b"") -> Answer:
        """Its answer. Raises ChildFailed: there is none, and the child is gone."""
        deadline = time.monotonic() + self._limits.seconds
        if self._process is None:
            self._process = self._start()
            deadline += _START
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        body = json.dumps(request).encode()
        try:
            # A child reads a request whole before it works, so that this cannot wait for long.
            process.stdin.write(_LENGTHS.pack(len(body), len(content)) + body)
            process.stdin.write(content)
            process.stdin.flush()
            said, size = _LENGTHS.unpack(_read_until(process.stdout, _LENGTHS.size, deadline))
            if said > _MAX_JSON or size > self._limits.answer:
                raise ChildFailed(f"gave an answer of {max(said, size):,} bytes")
            answer = json.loads(_read_until(process.stdout, said, deadline))
            return answer, _read_until(process.stdout, size, deadline)
        except TimeoutError:
            self.close()
            raise ChildFailed(f"took more than {self._limits.seconds:g} s") from None
        except (EOFError, OSError):
            raise ChildFailed(self._death()) from None
        except (ValueError, ChildFailed) as error:
            self.close()
            raise ChildFailed(str(error)) from None
        except BaseException:  # such as an interrupt: the answer would be taken for the next one
            self.close()
            raise

    def close(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        limits = json.dumps([self._limits.memory, self._limits.seconds / 2])
        # Imports as of this process, whatever made them possible; threads of BLAS need much memory.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            # -P: no module of the folder in which a user happens to stand.
            [sys.executable, "-P", "-m", self._module, limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def _death(self) -> str:
        process = self._process
        assert process is not None
        try:
            code = process.wait(1)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        if code == -24:  # SIGXCPU
            return f"took more than {self._limits.seconds / 2:g} s of the processor"
        return "crashed its decoder" + (f" (signal {-code})" if code and code < 0 else "")


def _read_until(file: IO[bytes], size: int, deadline: float) -> bytes:
    """Exactly `size` bytes. Raises TimeoutError, or EOFError: the other end is gone."""
    parts = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while len(parts) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            chunk = os.read(file.fileno(), min(size - len(parts), 1 << 20))
            if not chunk:
                raise EOFError
            parts += chunk
    return bytes(parts)


def serve(answer: Callable[[dict[str, Any], bytes], Answer]) -> None:
    """The child's main program: answers requests until its parent is gone.

    `answer` may raise MemoryError: its request needs more than the child may use.
    """
    memory, seconds = json.loads(sys.argv[1])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123  a device; what libraries print goes there
        os.dup2(nothing.fileno(), 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    space = _address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    while header := requests.read(_LENGTHS.size):
        said, size = _LENGTHS.unpack(header)
        request, content = json.loads(requests.read(said)), requests.read(size)
        used = resource.getrusage(resource.RUSAGE_SELF)
        budget = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.RLIM_INFINITY))
        try:
            result, payload = answer(request, content)
        except MemoryError:
            result, payload = {"error": f"needs more than {memory >> 20} MB"}, b""
        body = json.dumps(result).encode()
        with contextlib.suppress(BrokenPipeError):
            answers.write(_LENGTHS.pack(len(body), len(payload)) + body)
            answers.write(payload)
            answers.flush()


def _address_space() -> int:
    """Bytes of this process, in use or not."""
    with open("/proc/self/statm") as file:  # noqa: PTH123  no file of a user
        return int(file.read().split()[0]) * resource.getpagesize()

"""Rows whose faults need processes that train together: the tests that start them are run."""

import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from genvlm.testing.faults.row import Progress, Row, silent
from genvlm.testing.processes import ROOT

_TWO_PROCESSES = "tests/integration/test_zero.py"


def nan_in_one_process(_count: int, _seed: int, folder: Path, progress: Progress = silent) -> Row:
    """NaN in the data, the gradient or the state of one process of two, in every ZeRO stage."""
    return _tests("NaN in one process of two", "nan", folder, progress)


def change_processes(_count: int, _seed: int, folder: Path, progress: Progress = silent) -> Row:
    """1 -> 2 -> 1 processes, plain and by universal checkpoints; refused for ZeRO 0 and 1."""
    return _tests("change of the number of processes", "number", folder, progress)


def _tests(name: str, words: str, folder: Path, progress: Progress) -> Row:
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", str(ROOT / _TWO_PROCESSES), "-k", words]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--junit-xml={report}"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    cases = list(ElementTree.parse(report).iter("testcase")) if report.is_file() else []
    skipped = [case for case in cases if case.find("skipped") is not None]
    ran = [case for case in cases if case not in skipped]
    failures = [
        f"{case.get('name')}: {' '.join((said.get('message') or '').split())[:300]}"
        for case in ran
        for said in (*case.findall("failure"), *case.findall("error"))
    ]
    if not cases:
        failures.append(f"no test ran: {' '.join(run.stdout.split())[-300:]}")
    note = f"tests of {_TWO_PROCESSES} with {words!r} in their names"
    if skipped:
        note = f"SKIPPED {len(skipped)} of {len(cases)} {note}"
    progress(len(cases), len(cases))
    return Row(name, len(ran), tuple(failures), time.monotonic() - begin, note)

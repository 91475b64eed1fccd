"""The log of a run as far as it is a function of configuration and data."""

import json
from pathlib import Path

from genvlm.training.run_log import CLOCK_KEYS


def logged(out: Path) -> list[dict[str, float]]:
    """Records of a run without what the clock says."""
    return [
        {k: v for k, v in json.loads(line).items() if not _of_clock(k)}
        for line in (out / "log.jsonl").read_text().splitlines()
    ]


def _of_clock(key: str) -> bool:
    return key in CLOCK_KEYS or key.endswith("_per_second")

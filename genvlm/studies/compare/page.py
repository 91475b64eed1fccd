"""The page of a comparison."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genvlm.config.compare import CompareConfig
from genvlm.nn.whole_files import write_whole
from genvlm.studies.compare.cells import Cell


def write_page(
    config: CompareConfig, records: Mapping[Cell, dict[str, Any]], out: Path, baselines: Any = None
) -> Path:
    """results.json and report.html."""
    write_whole(out / "results.json", json.dumps(list(records.values()), indent=1) + "\n")
    return out / "results.json"

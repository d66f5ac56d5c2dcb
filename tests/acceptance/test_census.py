"""The example with real files, shortened: its result equals a serial run although a worker is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CENSUS = Path(__file__).resolve().parents[2] / "examples" / "stdlib_census" / "run_with_a_crash.py"


def test_a_census_with_a_killed_worker_equals_a_serial_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CENSUS), str(tmp_path / "census"), "150"],
        capture_output=True,
        timeout=110,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "census-2 killed" in done.stdout
    assert "equal to the serial run, byte for byte" in done.stdout

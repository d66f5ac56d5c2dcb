"""A keeper without memory, at any moment: it goes on, and knows of each of its jobs how it ended."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ALLOCATIONS = 300
"""About as many as there are in one turn of the program."""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this Python can't have its memory taken away"
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("width", [1, 30])
def test_whatever_there_is_no_memory_for_no_end_is_lost_and_no_job_forgotten(
    long_form: bool, width: int
) -> None:
    program = Path(__file__).with_name("memory_sweep.py")
    step = 1 if long_form else 13
    words = [sys.executable, str(program), str(width % step), str(ALLOCATIONS), str(step), str(width)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr

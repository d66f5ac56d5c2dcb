"""The questions there are, and a run of one in a process of its own: `python -m benchmarks.running NAME FILE`.

A process of its own, so that none leaves memory, threads, or a raised limit behind for the next.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import questions
from benchmarks.answers import Answer


def names() -> list[str]:
    """All questions, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(questions.__path__))


def question_of(name: str) -> str:
    """What is asked: the first line of its module."""
    module = importlib.import_module(f"{questions.__name__}.{name}")
    return (module.__doc__ or name).strip().splitlines()[0]


def run(name: str, quick: bool) -> Answer | None:
    """The answer; None if it failed, which its own traceback on stderr tells."""
    with tempfile.TemporaryDirectory(prefix="kueue-benchmark-") as place:
        file = Path(place) / "answer.json"
        words = [sys.executable, "-m", __spec__.name, name, str(file), *(["--quick"] if quick else [])]
        # Its stdout is for nobody: what it has to say is in the answer, or on stderr.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if done.returncode != 0 or not file.exists():
            return None
        return msgspec.json.decode(file.read_bytes(), type=Answer)


def main() -> None:
    """Answer one question into a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    module = importlib.import_module(f"{questions.__name__}.{options.name}")
    options.file.write_bytes(msgspec.json.encode(module.measure(options.quick)))


if __name__ == "__main__":
    main()

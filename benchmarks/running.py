"""The questions there are, and a run of one in a process of its own: `python -m benchmarks.running NAME FILE`.

A process of its own, so that none leaves memory, threads, or a raised limit behind for the next.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import questions
from benchmarks.answers import Answer

UNUSUAL = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
    "PYTHONDEVMODE",
    "PYTHONASYNCIODEBUG",
    "PYTHONMALLOC",
)
"""Variables that make Python slower than people have it; the first has each program compile its sources anew."""


def names() -> list[str]:
    """All questions, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(questions.__path__))


def question_of(name: str) -> str:
    """What is asked: the first paragraph of its module, which is read and not imported, since it may be broken."""
    spec = importlib.util.find_spec(f"{questions.__name__}.{name}")
    assert spec is not None, name
    assert spec.origin is not None, name
    explained = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or name
    return " ".join(explained.partition("\n\n")[0].split())


def run(name: str, quick: bool) -> Answer | None:
    """The answer; None if it failed, which its own traceback on stderr tells."""
    with tempfile.TemporaryDirectory(prefix="kueue-benchmark-") as place:
        file = Path(place) / "answer.json"
        words = [sys.executable, "-m", __spec__.name, name, str(file), *(["--quick"] if quick else [])]
        # Its stdout is for nobody: what it has to say is in the answer, or on stderr.
        env = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env)
        with contextlib.ExitStack() as stack:
            stack.callback(process.wait)  # after a Ctrl-C, too: it has programs to end
            if process.wait() != 0:
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

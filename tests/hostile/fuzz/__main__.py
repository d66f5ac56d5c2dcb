"""Fuzzes one target with atheris, for so long, from the seeds and what earlier runs found.

`python -m tests.hostile.fuzz TARGET --seconds N --record FILE`. The fuzzer ends its process when it is done
or has found something, so it runs in one of its own, and what it prints is read for the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODULE = "tests.hostile.fuzz"
INSTRUMENTED = ["kueue", "kueue_server", "kueue_worker", "tests.hostile", "json", "tomllib"]
LONGEST_INPUT = 8192
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz or replay; 1 if something was found."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"), help="where inputs are kept")
    parser.add_argument("--record", type=Path, help="a JSON file: the figures of this run are added to it")
    parser.add_argument("--replay", type=Path, help="run this one input, without a fuzzer")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.replay is not None:
        _target(given.target)(given.replay.read_bytes())
        return 0
    place = given.corpus / given.target
    place.mkdir(parents=True, exist_ok=True)
    if given.inner:
        _fuzz(given.target, given.seconds, place)
        return 0
    figures = _watched(given.target, given.seconds, given.corpus)
    print(json.dumps(figures), flush=True)
    if given.record is not None:
        earlier = json.loads(given.record.read_text()) if given.record.exists() else []
        given.record.write_text(json.dumps([*earlier, figures], indent=1) + "\n")
    return 1 if figures["findings"] else 0


def _target(name: str) -> Any:
    from tests.hostile.fuzz.targets import TARGETS

    if name not in TARGETS:
        sys.exit(f"targets are: {', '.join(TARGETS)}")
    return TARGETS[name]


def _fuzz(name: str, seconds: int, place: Path) -> None:
    import atheris  # type: ignore[import-untyped] # a tool for people, not a dependency of the tests

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.hostile.fuzz.seeds import seeds

        target = _target(name)
    for seed in seeds(name):
        (place / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [
        sys.argv[0],
        str(place),
        f"-max_total_time={seconds}",
        f"-artifact_prefix={place}/",
        f"-max_len={LONGEST_INPUT}",
        "-timeout=20",
        "-rss_limit_mb=1500",
        "-print_final_stats=1",
    ]

    def saved(data: bytes) -> None:
        try:
            target(data)
        except BaseException:  # the fuzzer does not always come to save it
            (place / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    atheris.Setup(options, saved)
    atheris.Fuzz()


def _watched(name: str, seconds: int, corpus: Path) -> dict[str, Any]:
    """Run the fuzzer, pass on what it prints, and return its figures."""
    words = [
        sys.executable,
        "-m",
        MODULE,
        name,
        "--inner",
        "--seconds",
        str(seconds),
        "--corpus",
        str(corpus),
    ]
    began = time.time()
    known = set((corpus / name).glob("*-*"))
    edges = features = inputs = executions = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace")
            sys.stdout.write(line)
            sys.stdout.flush()
            if found := _COVERAGE.search(line):
                edges, features, inputs = map(int, found.groups())
            if found := _EXECUTED.search(line):
                executions = int(found[1])
    findings = sorted(path.name for path in set((corpus / name).glob("*-*")) - known)
    if process.returncode and not findings:  # it was killed
        findings = [f"the fuzzer ended with {process.returncode}"]
    return {
        "target": name,
        "began": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "executions": executions,
        "edges": edges,
        "features": features,
        "inputs": inputs,
        "findings": findings,
    }


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.peers`: which peers can be measured here. `--install [DIR]`: those that are on PyPI."""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers import PLACE_VARIABLE, environment_of_peers, peers

PACKAGES = ("celery[redis]", "distributed", "hyperqueue")


def main() -> int:
    """List, or install; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--install",
        nargs="?",
        const=environment_of_peers(),
        type=Path,
        metavar="DIR",
        help=f"make a virtual environment of their own there (default: {environment_of_peers()})",
    )
    options = parser.parse_args()
    if options.install is None:
        for name, peer in peers().items():
            print(f"{name}: {peer.available() or 'available'}")
        return 0
    place = options.install.resolve()
    venv.create(place, with_pip=True, symlinks=True)
    done = subprocess.run([place / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES])
    if done.returncode == 0 and place != environment_of_peers():
        print(f"for the benchmarks to find them: export {PLACE_VARIABLE}={place}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

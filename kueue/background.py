"""Starting a daemon of ours in the background: detached from terminal, session, directory and descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import kueue
from kueue.errors import ServerUnreachableError
from kueue.logs import LOG_FILE, MAX_LOG_BYTES
from kueue.private_files import make_directories

_LAST_BYTES = 4096


class LogFile:
    """A daemon's log, and where in it the present start begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        make_directories(path.parent)
        # The daemon does the same while it runs.
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            os.replace(path, path.with_name(f"{path.name}.1"))
        self._begin = path.stat().st_size if path.exists() else 0

    def open(self) -> int:
        """A descriptor to append with."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def last_line(self) -> str:
        """The last line that the daemon has written since this start; empty if none."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._begin, size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def start_in_background(
    module: str, arguments: Sequence[str], environment: dict[str, str], log: LogFile
) -> subprocess.Popen[bytes]:
    """Run `python -m module arguments…` with this Python, on its own.

    Raises:
        ServerUnreachableError: it can't be started.
    """
    descriptor = log.open()
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**environment, **_python_path(environment), LOG_FILE: str(log.path)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            close_fds=True,
            start_new_session=True,
        )
    except OSError as error:
        raise ServerUnreachableError(f"can't start {module}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _python_path(environment: dict[str, str]) -> dict[str, str]:
    """The daemon finds this very package, though it starts in another directory."""
    given = environment.get("PYTHONPATH", "")
    places = [os.path.abspath(place) for place in given.split(os.pathsep) if place]
    package = str(Path(kueue.__file__).resolve().parent.parent)
    # A directory of installed packages is searched anyway, after the standard library; not before it.
    if Path(package).name not in ("site-packages", "dist-packages") and package not in places:
        places.insert(0, package)
    return {"PYTHONPATH": os.pathsep.join(places)} if places else {}

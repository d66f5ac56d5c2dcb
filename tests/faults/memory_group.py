"""A cgroup of a test's own whose processes share a limit of memory, below the one that the tests run in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_for

ROOT = Path("/sys/fs/cgroup")


def _own_group() -> tuple[Path, str]:
    """The directory of the cgroup that counts our memory, and the name of the file that limits it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
    return ROOT / path.lstrip("/"), "memory.max"  # version 2 has only one line


@contextlib.contextmanager
def memory_group(megabytes: int) -> Iterator[list[str]]:
    """Words to put before a command, which then shares so much memory with all that it starts."""
    own, limit = _own_group()
    place = own / f"kueue-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of our own here: {error}")
    try:
        try:
            (place / limit).write_text(str(megabytes * 1024 * 1024))
            with contextlib.suppress(OSError):  # as far as there is swap at all
                (place / "memory.swap.max").write_text("0")
        except OSError as error:
            pytest.skip(f"a cgroup of ours may not limit memory: {error}")
        yield ["sh", "-c", f'echo $$ > {place}/cgroup.procs && exec "$@"', "sh"]
    finally:
        wait_for("all have left the cgroup", lambda: not (place / "cgroup.procs").read_text())
        place.rmdir()

"""Starting one process with everything it is to have: directory, outputs, environment, umask, limits, niceness.

`os.posix_spawn`: the kernel runs the new program without copying this process. What posix_spawn can't set for the
child is set here around it (directory, umask, harmless limits) or on the child right after (the limits that could
hurt this process, niceness, the order in which memory hogs die).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from typing import Any

AROUND = frozenset(
    {"nofile", "core", "stack", "fsize", "memlock", "msgqueue", "sigpending", "nice", "rtprio"}
)
"""Soft limits that can be ours for the moment of a spawn without harm."""
_DEFAULTED = [
    number
    for number in signal.valid_signals()
    if number not in (signal.SIGKILL, signal.SIGSTOP) and not signal.SIGRTMIN <= number <= signal.SIGRTMAX
]
_UNLIMITED = resource.RLIM_INFINITY


class NotStartedError(Exception):
    """The process could not be started. `code`: `no_program`, `spawn`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Spawner:
    """Knows this process's own limits and umask, so that what is equal costs no system call."""

    def __init__(self) -> None:
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._limits = {
            name[7:].lower(): (number, *resource.getrlimit(number))
            for name, number in vars(resource).items()
            if name.startswith("RLIMIT_")
        }

    def open_spool_file(self, path: str) -> int:
        """A fresh private file for one stream."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    @property
    def null(self) -> int:
        """An open /dev/null."""
        return self._null

    def spawn(
        self,
        program: str,
        argv: list[bytes],
        environment: dict[bytes, bytes],
        directory: int,
        out: int,
        err: int,
        *,
        umask: int | None,
        limits: dict[str, int],
        nice: int,
        oom: int,
    ) -> int:
        """Start it; the pid.

        Raises:
            NotStartedError: with a line for people.
        """
        changed = self._set_around(limits)
        try:
            os.fchdir(directory)
            if umask is not None and umask != self._umask:
                os.umask(umask)
                self._umask = umask
            actions = [(os.POSIX_SPAWN_DUP2, self._null, 0), (os.POSIX_SPAWN_DUP2, out, 1)]
            actions.append((os.POSIX_SPAWN_DUP2, err, 2))
            try:
                pid = self._posix_spawn(program, argv, environment, actions)
            except OSError as error:
                raise _not_started(program, argv, error) from None
        finally:
            for number, limit in changed:
                resource.setrlimit(number, limit)
        with contextlib.suppress(OSError, ValueError):
            if nice:
                os.setpriority(os.PRIO_PGRP, pid, nice)
        if oom:
            with contextlib.suppress(OSError):
                adjust = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(adjust, b"%d" % oom)
                finally:
                    os.close(adjust)
        for name, soft in limits.items():
            if name not in AROUND:
                self._limit_child(pid, name, soft)
        return pid

    def _posix_spawn(
        self, program: str, argv: list[bytes], environment: dict[bytes, bytes], actions: list[Any]
    ) -> int:
        options: dict[str, Any] = {"setsid": True, "setsigmask": (), "setsigdef": _DEFAULTED}
        try:
            return os.posix_spawn(program, argv, environment, file_actions=actions, **options)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
        # A script without an interpreter line: as from a shell.
        script = [b"/bin/sh", os.fsencode(program), *argv[1:]]
        return os.posix_spawn("/bin/sh", script, environment, file_actions=actions, **options)

    def _set_around(self, limits: dict[str, int]) -> list[tuple[int, tuple[int, int]]]:
        changed = []
        for name, wanted in limits.items():
            if name not in AROUND or name not in self._limits:
                continue
            number, soft, hard = self._limits[name]
            new = _clamped(wanted, hard)
            if new != soft:
                with contextlib.suppress(OSError, ValueError):
                    resource.setrlimit(number, (new, hard))
                    changed.append((number, (soft, hard)))
        return changed

    def _limit_child(self, pid: int, name: str, wanted: int) -> None:
        if name not in self._limits:
            return
        number, soft, hard = self._limits[name]
        new = _clamped(wanted, hard)
        if new != soft:
            with contextlib.suppress(OSError, ValueError):
                resource.prlimit(pid, number, (new, hard))


def _clamped(wanted: int, hard: int) -> int:
    if wanted < 0:
        return hard
    return wanted if hard == _UNLIMITED else min(wanted, hard)


def _not_started(program: str, argv: list[bytes], error: OSError) -> NotStartedError:
    name = argv[0].decode(errors="backslashreplace") if argv else program
    if error.errno == errno.ENOENT:
        if os.path.lexists(program):
            return NotStartedError("no_program", f"cannot run {name}: its interpreter is missing")
        return NotStartedError("no_program", f"cannot run {name}: no such program")
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ETXTBSY):
        return NotStartedError("no_program", f"cannot run {name}: {error.strerror}")
    return NotStartedError("spawn", f"cannot start {name}: {error.strerror}")

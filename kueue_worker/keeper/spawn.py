"""Starting jobs: one `posix_spawn` each, with everything around it as the job is to find it.

Directory, umask and some limits are those of the keeper itself for the moment of the spawn, and set back
after a batch; nothing else may run in between. The exec is waited for (that is how a missing program is
known), so program and directory have to be looked at by the agent before: nothing here has a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections import OrderedDict

from kueue_worker.keeper.boot import boottime
from kueue_worker.keeper.limits import Limits, set_on, set_own
from kueue_worker.keeper.orders import Output, SpawnOrder
from kueue_worker.keeper.processes import FENCE_VARIABLE
from kueue_worker.keeper.sessions import Sessions
from kueue_worker.keeper.wire import to_bytes

MOST_ENVIRONMENTS = 256
OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
UMASK = 0o077
"""The keeper's own."""
DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
SHELL = b"/bin/sh"
FENCE_NAME = FENCE_VARIABLE[:-1]

Environment = dict[bytes, bytes]


class SpawnError(Exception):
    """A job could not be started: `code` and `text` of its end."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class NoEnvironmentError(Exception):
    """The environment that an order names is not known."""


class Spawner:
    """Knows what the agent sent for later spawns. Output below `spool` gets the directories it needs."""

    def __init__(self, spool: str, limits: Limits) -> None:
        self._spool = os.fsencode(spool) + b"/"
        self._limits = limits
        self._environments: OrderedDict[str, Environment] = OrderedDict()
        self._directories: dict[int | str, int] = {}
        self._home = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._here = self._home
        os.fchdir(self._home)
        self._umask = UMASK
        self._inherited_umask = os.umask(UMASK)
        self.sessions = Sessions()
        self._oom_file = _open_oom_score()
        self._own_oom = self._oom = _read_oom_score(self._oom_file)
        self.pid: int | None = None
        """Of the last `spawn`, as soon as it is known: also if there was no memory for what comes after."""
        self.trying = ""
        """The key of the order of which there may be a process whose number nobody knows, for want of memory."""

    # ---------------------------------------------------------------- what orders refer to

    def set_environment(self, name: str, pairs: list[tuple[bytes, bytes]]) -> None:
        """Remember an environment."""
        self._environments[name] = dict(pairs)
        self._environments.move_to_end(name)
        if len(self._environments) > MOST_ENVIRONMENTS:
            self._environments.popitem(last=False)

    def has_environment(self, name: str) -> bool:
        """Is it known? Counts as a use."""
        if name not in self._environments:
            return False
        self._environments.move_to_end(name)
        return True

    def set_directory(self, name: int | str, descriptor: int) -> None:
        """Remember a working directory; the descriptor is closed when that ends."""
        self.drop_directory(name)
        self._directories[name] = descriptor

    def drop_directory(self, name: int | str) -> None:
        """Close a working directory, if it is known."""
        descriptor = self._directories.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def forget(self) -> None:
        """Forget all environments and directories: another agent has others."""
        self._environments.clear()
        for name in list(self._directories):
            self.drop_directory(name)

    # ---------------------------------------------------------------- starting

    def spawn(self, order: SpawnOrder) -> int:
        """Start a job; its pid. Its descriptors are closed. Afterwards `settle` has to be called.

        Raises:
            SpawnError: it could not be started.
        """
        self.pid = None
        opened: list[int] = []
        try:
            return self._spawn(order, opened)
        finally:
            self.discard(order)
            for descriptor in opened:
                os.close(descriptor)

    def discard(self, order: SpawnOrder) -> None:
        """Close the descriptors of an order."""
        for output in (order.out, order.err):
            if type(output) is int:
                os.close(output)

    def settle(self) -> None:
        """Be the keeper itself again, after a batch."""
        if self._here != self._home:
            os.fchdir(self._home)
            self._here = self._home
        if self._umask != UMASK:
            os.umask(UMASK)
            self._umask = UMASK
        if self._oom != self._own_oom:
            self._set_oom_score(self._own_oom)

    def _spawn(self, order: SpawnOrder, opened: list[int]) -> int:
        out = self._open(order.out, opened)
        err = out if order.err_is_out else self._open(order.err, opened)
        directory = self._directories.get(order.directory)
        if directory is None:
            raise SpawnError("no_directory", "the working directory is not open any more")
        if directory != self._here:
            try:
                os.fchdir(directory)
            except OSError as error:
                raise SpawnError(
                    "no_directory", f"cannot enter the working directory: {error.strerror}"
                ) from None
            self._here = directory
        if is_removed(directory):
            raise SpawnError("no_directory", "the working directory has been removed")
        umask = self._inherited_umask if order.umask is None else order.umask
        if umask != self._umask:
            os.umask(umask)
            self._umask = umask
        oom = max(order.oom, self._own_oom)  # nobody may lower it
        if oom != self._oom:
            self._set_oom_score(oom)
        environment = self._environments[order.env].copy()
        environment.update(order.extra)
        environment[FENCE_NAME] = to_bytes(order.key)
        limits = self._limits.plan(order.limits)
        actions = [
            (os.POSIX_SPAWN_DUP2, self._null, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ]
        if limits.around:
            set_own(limits.around)
        self.trying = order.key
        try:
            pid = self.pid = _execute(order.program, order.argv, environment, actions)
            self.trying = ""
        except OSError as error:
            self.trying = ""
            raise _spawn_error(order.program, error) from None
        except ValueError:
            self.trying = ""
            raise SpawnError("spawn", "the command has a NUL byte in it") from None
        finally:
            if limits.back:
                set_own(limits.back)
        if limits.afterwards:
            set_on(pid, limits.afterwards)
        if order.nice:
            # The group, since it may have children by now. Gone already, or we may not: then so be it.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PGRP, pid, order.nice)
            self.sessions.started(pid, order.nice, boottime())
        return pid

    def _open(self, output: Output, opened: list[int]) -> int:
        if output is None:
            return self._null
        if type(output) is int:
            return output
        assert type(output) is bytes
        if self._umask & 0o600:
            os.umask(UMASK)
            self._umask = UMASK
        try:
            try:
                descriptor = os.open(output, OUTPUT_FLAGS, 0o600)
            except FileNotFoundError:
                if not output.startswith(self._spool):
                    raise
                os.makedirs(os.path.dirname(output), mode=0o700, exist_ok=True)
                descriptor = os.open(output, OUTPUT_FLAGS, 0o600)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in EXHAUSTED:
                raise _spawn_error(output, error) from None
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SpawnError("output", f"cannot write {_shown(output)}: {reason}") from None
        opened.append(descriptor)
        return descriptor

    def _set_oom_score(self, score: int) -> None:
        if self._oom_file is None:
            return
        self._oom = score
        with contextlib.suppress(OSError):
            os.pwrite(self._oom_file, b"%d" % score, 0)


def is_removed(directory: int) -> bool:
    """Is this open directory gone from its file system (as far as this machine knows)?"""
    if os.fstat(directory).st_nlink:
        return False
    # Some FUSE file systems count no links at all: they must not be taken for empty ones.
    return os.readlink(b"/proc/self/fd/%d" % directory).endswith(b" (deleted)")


def _execute(
    program: bytes, argv: list[bytes], environment: Environment, actions: list[tuple[int, int, int]]
) -> int:
    try:
        return os.posix_spawn(
            program,
            argv,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=DEFAULT_SIGNALS,
        )
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without `#!`: as from a shell. A name without a slash is in the directory, not in PATH.
    script = program if b"/" in program else b"./" + program
    return os.posix_spawn(
        SHELL,
        [SHELL, script, *argv[1:]],
        environment,
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=DEFAULT_SIGNALS,
    )


TEXTS = {
    errno.ENOENT: ("no_program", "{}: no such file, or the interpreter in its first line is missing"),
    errno.EACCES: ("no_program", "{}: not executable (chmod +x)"),
    errno.EPERM: ("no_program", "{}: must not be executed here"),
    errno.ENOTDIR: ("no_program", "{}: no such file"),
    errno.EISDIR: ("no_program", "{}: is a directory"),
    errno.ELOOP: ("no_program", "{}: too many symbolic links"),
    errno.ENAMETOOLONG: ("no_program", "{}: the name is too long"),
    errno.ETXTBSY: ("no_program", "{}: is being written by another program"),
    errno.ENOEXEC: ("no_program", "{}: not a program for this machine"),
    errno.ELIBBAD: ("no_program", "{}: not a program for this machine"),
    errno.E2BIG: ("spawn", "the command and its environment are too long"),
    errno.ENOMEM: ("exhausted", "the machine has no memory for another process"),
    errno.EAGAIN: ("exhausted", "the limit of processes of this user is reached"),
    errno.EMFILE: ("exhausted", "the keeper has too many files open"),
    errno.ENFILE: ("exhausted", "the machine has too many files open"),
}
EXHAUSTED = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Of opening a file: not the job's fault."""


def _spawn_error(program: bytes, error: OSError) -> SpawnError:
    code, text = TEXTS.get(error.errno or 0, ("spawn", f"{{}}: {error.strerror}"))
    return SpawnError(code, text.replace("{}", _shown(program)))


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _open_oom_score() -> int | None:
    try:
        return os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


def _read_oom_score(descriptor: int | None) -> int:
    if descriptor is None:
        return 0
    try:
        return int(os.pread(descriptor, 32, 0))
    except (OSError, ValueError):
        return 0

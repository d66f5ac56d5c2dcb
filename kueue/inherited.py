"""What a job inherits from where it is submitted, as plain data: environment, umask, limits.

The standard library alone: it is on the way of `kueue cmd`, which is called a thousand times.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

from kueue.errors import UsageError

SESSION_VARIABLES = (
    *("PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "HOST", "TERM", "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY"),
    *("WINDOWID", "COLUMNS", "LINES", "TMUX*", "STY", "SSH_*", "XDG_RUNTIME_DIR", "XDG_SESSION_*", "DBUS_*"),
    *("JOURNAL_STREAM", "INVOCATION_ID", "KRB5CCNAME"),
)
"""Variables that belong to a login session or a place, not to a job; with `*`, all that begin so."""
JOB_VARIABLES = (
    *("KUEUE_JOB_ID", "KUEUE_ATTEMPT", "KUEUE_CPUS", "KUEUE_RAM_MB", "KUEUE_WORKER", "KUEUE_FENCE"),
    "KUEUE_RESOURCE_*",
)
"""What Kueue itself sets in a job; a job that submits jobs does not pass it on."""
FOLLOWING_VARIABLES = (
    ("OMP_NUM_THREADS", "KUEUE_CPUS"),
    ("CUDA_VISIBLE_DEVICES", "KUEUE_RESOURCE_GPU"),
)
"""Set by Kueue in a job if they are equal to the other one; else they are the user's own."""
CLEAN_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ")
"""What is left with a clean environment."""
LIMITS = ("cpu", "fsize", "data", "stack", "core", "nproc", "nofile", "memlock", "as")


class _Names:
    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._whole = frozenset(patterns)
        self._beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def __contains__(self, name: str) -> bool:
        return name in self._whole or name.startswith(self._beginnings)


_DROPPED = _Names((*SESSION_VARIABLES, *JOB_VARIABLES))
_CLEAN = _Names(CLEAN_VARIABLES)


def inherited_environment(
    environ: Mapping[str, str], extra: Mapping[str, str], *, clean: bool
) -> list[tuple[str, str]]:
    """`environ` without what is the session's own (`clean`: only the bare minimum of it), `extra` on top;
    sorted by name.

    Raises:
        UsageError: a name or value of `extra` can't be one.
    """
    followers = {name for name, source in FOLLOWING_VARIABLES if _follows(environ, name, source)}
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _DROPPED and name not in followers and (not clean or name in _CLEAN)
    }
    for name, value in extra.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"environment variables are text, not {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name:
            raise UsageError(f"{name!r} can't be the name of an environment variable")
        if "\0" in value:
            raise UsageError(f"a NUL byte can't be in the environment variable {name}")
        kept[name] = value
    return sorted(kept.items())


def soft_limits() -> dict[str, int]:
    """Soft resource limits of this process by their lower-case names; -1 is unlimited."""
    limits = {}
    for name in LIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            soft, _ = resource.getrlimit(number)
            limits[name] = -1 if soft == resource.RLIM_INFINITY else soft
    return limits


def current_umask() -> int:
    """Of this process; read without changing it for a moment, where the system tells (other threads)."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError, IndexError):
        pass
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _follows(environ: Mapping[str, str], name: str, source: str) -> bool:
    return "KUEUE_JOB_ID" in environ and name in environ and environ[name] == environ.get(source)

"""What a job inherits from where it is submitted: environment, umask, limits; and its directory's volume."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import resource
from collections.abc import Mapping

import msgspec

from kueue.errors import UsageError
from kueue.wire.codec import to_os
from kueue.wire.messages import Context, OsString

SESSION_VARIABLES = (
    *("PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "HOST", "TERM", "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY"),
    *("WINDOWID", "COLUMNS", "LINES", "TMUX*", "STY", "SSH_*", "XDG_RUNTIME_DIR", "XDG_SESSION_*", "DBUS_*"),
    *("JOURNAL_STREAM", "INVOCATION_ID", "KRB5CCNAME"),
)
"""Variables that belong to a login session or a place, not to a job (patterns)."""
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

_MAX_KNOWN_VOLUMES = 10_000
_DROPPED = re.compile("|".join(map(fnmatch.translate, (*SESSION_VARIABLES, *JOB_VARIABLES))))
_CLEAN = re.compile("|".join(map(fnmatch.translate, CLEAN_VARIABLES)))


def context_of(environ: Mapping[str, str], extra: Mapping[str, str], *, clean: bool) -> bytes:
    """The encoded `Context` for a job: `environ` without what is the session's own (`clean`: only the bare
    minimum of it), `extra` on top, umask and soft limits of this process. Equal contents encode equally.

    Raises:
        UsageError: a name or value of `extra` can't be one.
    """
    followers = {name for name, source in FOLLOWING_VARIABLES if _follows(environ, name, source)}
    kept = {
        name: value
        for name, value in environ.items()
        if not _DROPPED.match(name) and name not in followers and (not clean or _CLEAN.match(name))
    }
    for name, value in extra.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"environment variables are text, not {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name:
            raise UsageError(f"{name!r} can't be the name of an environment variable")
        if "\0" in value:
            raise UsageError(f"a NUL byte can't be in the environment variable {name}")
        kept[name] = value
    limits = {}
    for name in LIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            soft, _ = resource.getrlimit(number)
            limits[name] = -1 if soft == resource.RLIM_INFINITY else soft
    env = tuple((to_os(name), to_os(value)) for name, value in sorted(kept.items()))
    return msgspec.json.encode(Context(env=env, umask=_umask(), limits=limits))


def digest_of(context: bytes) -> str:
    """How jobs refer to an encoded `Context`."""
    return hashlib.sha256(context).hexdigest()


def volume_of(directory: str) -> str:
    """Mount point of a directory as it is seen here; for `/`, the first component of the path."""
    path = directory
    try:
        while path not in ("/", "//", "") and not os.path.ismount(path):
            path = os.path.dirname(path)
    except (OSError, ValueError):
        path = "/"
    if path not in ("/", "//", ""):
        return path
    return "/" + directory.lstrip("/").split("/", 1)[0]


class Volumes:
    """Volumes of many directories, as the wire has them: neighbours look up what is above them once."""

    def __init__(self) -> None:
        self._known: dict[str, OsString] = {}

    def of(self, directory: str) -> OsString:
        """As `volume_of`."""
        known = self._known.get(directory)
        if known is None:
            if len(self._known) > _MAX_KNOWN_VOLUMES:
                self._known.clear()
            known = self._known[directory] = self._look_up(directory)
        return known

    def _look_up(self, directory: str) -> OsString:
        parent = directory.rpartition("/")[0]
        try:
            if parent in ("", "/") or os.path.ismount(directory):
                return to_os(volume_of(directory))
        except (OSError, ValueError):
            return to_os(volume_of(directory))
        above = self._known.get(parent)
        if above is None:
            above = self._known[parent] = to_os(volume_of(parent))
        return above


def _follows(environ: Mapping[str, str], name: str, source: str) -> bool:
    return "KUEUE_JOB_ID" in environ and name in environ and environ[name] == environ.get(source)


def _umask() -> int:
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

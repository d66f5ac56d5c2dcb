"""What a job inherits from where it is submitted: environment, umask, limits; and the volume of its directory."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import resource
from collections.abc import Mapping

import msgspec

from kueue.wire.codec import to_os
from kueue.wire.messages import Context

SESSION_VARIABLES = (
    *("PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "HOST", "TERM", "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY"),
    *("WINDOWID", "COLUMNS", "LINES", "TMUX*", "STY", "SSH_*", "XDG_RUNTIME_DIR", "XDG_SESSION_*", "DBUS_*"),
    *("JOURNAL_STREAM", "INVOCATION_ID", "KRB5CCNAME", "KUEUE_*"),
)
"""Variables that belong to a login session or a place, not to a job (patterns)."""
CLEAN_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ")
"""What is left with a clean environment."""
LIMITS = ("cpu", "fsize", "data", "stack", "core", "nproc", "nofile", "memlock", "as")

_SESSION = re.compile("|".join(map(fnmatch.translate, SESSION_VARIABLES)))
_CLEAN = re.compile("|".join(map(fnmatch.translate, CLEAN_VARIABLES)))


def context_of(environ: Mapping[str, str], extra: Mapping[str, str], *, clean: bool) -> bytes:
    """The encoded `Context` for a job: `environ` without what is the session's own (`clean`: only the bare
    minimum of it), `extra` on top, umask and soft limits of this process. Equal contents encode equally."""
    kept = {
        name: value
        for name, value in environ.items()
        if not _SESSION.match(name) and (not clean or _CLEAN.match(name))
    }
    kept.update(extra)
    umask = os.umask(0o077)
    os.umask(umask)
    limits = {}
    for name in LIMITS:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            soft, _ = resource.getrlimit(number)
            limits[name] = -1 if soft == resource.RLIM_INFINITY else soft
    env = tuple((to_os(name), to_os(value)) for name, value in sorted(kept.items()))
    return msgspec.json.encode(Context(env=env, umask=umask, limits=limits))


def digest_of(context: bytes) -> str:
    """How jobs refer to an encoded `Context`."""
    return hashlib.sha256(context).hexdigest()


def volume_of(directory: str) -> str:
    """Mount point of a directory as it is seen here; for `/`, the first component of the path."""
    try:
        path = os.path.abspath(directory)
        while path != "/" and not os.path.ismount(path):
            path = os.path.dirname(path)
    except OSError:
        path = "/"
    if path != "/":
        return path
    first = directory.split("/", 2)[1] if directory.startswith("/") else ""
    return f"/{first}"

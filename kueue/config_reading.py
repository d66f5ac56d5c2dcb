"""Where the configuration file is, and its text, if nobody else can read or write it. The standard library alone.

Whoever can read the file can run programs as its owner, and whoever can write it chooses which.
"""

from __future__ import annotations

import os
import stat
import sys

from kueue.errors import ConfigError
from kueue.text import visible

MAX_BYTES = 4 * 1024 * 1024
_XDG = {"config": ("XDG_CONFIG_HOME", "~/.config"), "state": ("XDG_STATE_HOME", "~/.local/state")}


def default_config_place() -> str:
    """`KUEUE_CONFIG`, else `~/.config/kueue/config.toml` (or where the XDG variables say)."""
    named = os.environ.get("KUEUE_CONFIG")
    if named:
        return absolute(os.path.expanduser(named))
    return os.path.join(user_place("config"), "config.toml")


def absolute(place: str) -> str:
    """From the current directory; `..` stays as it is, as it may go through a link."""
    return os.path.join(os.getcwd(), place)


def user_place(kind: str) -> str:
    """The user's directory for Kueue's `config` or `state`, as platformdirs has it; on Linux without it."""
    if sys.platform == "linux":
        variable, usual = _XDG[kind]
        named = os.environ.get(variable, "")
        return os.path.join(named if named.startswith("/") else os.path.expanduser(usual), "kueue")
    import platformdirs

    return {"config": platformdirs.user_config_dir, "state": platformdirs.user_state_dir}[kind]("kueue")


def read_config(place: str | os.PathLike[str]) -> str:
    """The text of the file.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it can't be read, or others can read or write it.
    """
    try:
        # Without O_NONBLOCK a FIFO in its place would hold the program up for ever.
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"{shown(place)}: can't be read: {reason}") from None
    try:
        status = os.fstat(descriptor)
        _check_private(status, place)
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        if status.st_size > MAX_BYTES:
            raise ConfigError(f"{shown(place)}: is far too big for a configuration ({status.st_size} bytes)")
        try:
            raw = file.read(MAX_BYTES)
        except OSError as error:
            raise ConfigError(f"{shown(place)}: can't be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown(place)}: line {line} is not UTF-8") from None


def _check_private(status: os.stat_result, place: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{shown(place)}: is a directory; give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{shown(place)}: is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{shown(place)}: belongs to another user (uid {status.st_uid}), who could run programs as you;"
            " make a copy of your own"
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"{shown(place)}: other users may read or change it (mode {mode:04o});"
            f" mend that with: chmod 600 {shown(place)}"
        )


def shown(place: str | os.PathLike[str]) -> str:
    """A path for people."""
    return visible(os.fspath(place))

"""The configuration as a file: where it is, who may read it, how the first one is made. Knows no keys.

Whoever can read the file can run programs as its owner, and whoever can write it chooses which. So it is
read only if nobody else can do either, and a first one is made whole, with a fresh secret, or not at all.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from typing import Any

from kueue.errors import ConfigError
from kueue.private_files import create_file, make_directories
from kueue.text import visible

SECRET_BYTES = 48
"""Random bytes of a fresh secret; 64 characters of text."""
MAX_BYTES = 4 * 1024 * 1024
PLACEHOLDER = "{fresh secret}"
"""Stands in the template where the secret goes; too short to be taken for one."""


def default_config_path() -> Path:
    """`KUEUE_CONFIG`, else `~/.config/kueue/config.toml` (or where the XDG variables say)."""
    named = os.environ.get("KUEUE_CONFIG")
    if named:
        return Path(os.path.expanduser(named)).absolute()
    import platformdirs

    return Path(platformdirs.user_config_path("kueue")) / "config.toml"


def template_text() -> str:
    """The template, with the placeholder for the secret in it.

    Raises:
        ConfigError: the installation is incomplete.
    """
    here = Path(__file__).resolve().parent
    # Installed it lies in the package, in a source checkout beside it.
    for candidate in (here / "config.template.toml", here.parent / "config.template.toml"):
        if candidate.is_file():
            return candidate.read_text("utf-8")
    raise ConfigError("config.template.toml is missing from the installation; install Kueue again")


def read_or_create(path: str | os.PathLike[str] | None, create: bool) -> tuple[Path, str, bool]:
    """The file's place, its text, and whether it was written just now from the template (with `create`).

    Raises:
        ConfigError: it can't be read, or is not there and not to be made.
    """
    place = Path(path).absolute() if path is not None else default_config_path()
    created = False
    try:
        text = read_config(place)
    except FileNotFoundError:
        if not create:
            raise ConfigError(f"{_shown(place)}: no such file") from None
        created = create_config(place)
        try:
            text = read_config(place)  # ours, or that of a program that was quicker
        except FileNotFoundError:
            raise ConfigError(f"{_shown(place)}: is a link to a file that does not exist") from None
    return place, text, created


def create_config(place: Path) -> bool:
    """Write the template with a fresh secret, unless a file is there; True if this call wrote it.

    Raises:
        ConfigError: it can't be written.
    """
    secret = base64.urlsafe_b64encode(os.urandom(SECRET_BYTES)).decode()
    text = template_text().replace(PLACEHOLDER, secret)
    try:
        make_directories(place.parent)
        return create_file(place, text.encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{_shown(place)}: can't write a first configuration: {reason}") from None


def read_config(place: Path) -> str:
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
        raise ConfigError(f"{_shown(place)}: can't be read: {reason}") from None
    try:
        status = os.fstat(descriptor)
        _check_private(status, place)
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        if status.st_size > MAX_BYTES:
            raise ConfigError(f"{_shown(place)}: is far too big for a configuration ({status.st_size} bytes)")
        try:
            raw = file.read(MAX_BYTES)
        except OSError as error:
            raise ConfigError(f"{_shown(place)}: can't be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{_shown(place)}: line {line} is not UTF-8") from None


def _check_private(status: os.stat_result, place: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{_shown(place)}: is a directory; give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{_shown(place)}: is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{_shown(place)}: belongs to another user (uid {status.st_uid}), who could run programs as you;"
            " make a copy of your own"
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"{_shown(place)}: other users may read or change it (mode {mode:04o});"
            f" mend that with: chmod 600 {_shown(place)}"
        )


def parse_toml(text: str, place: Path) -> dict[str, Any]:
    """The tables of the file.

    Raises:
        ConfigError: no TOML; the text has the line.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told = visible(str(error))
        where = re.search(r" \(at line (\d+), column (\d+)\)$", told)
        if where is not None:
            what = told[: where.start()]
            raise ConfigError(f"{_shown(place)}: line {where[1]}, column {where[2]}: {what}") from None
        last = text.count("\n") + 1
        raise ConfigError(f"{_shown(place)}: line {last}: {told}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets within brackets
        raise ConfigError(
            f"{_shown(place)}: contains a number or nesting that is too long to be meant"
        ) from None


def _shown(place: Path) -> str:
    return visible(str(place))

"""The configuration as a file: where it is, how the first one is made (whole, with a fresh secret, or not at all),
its tables. Knows no keys; `config_reading.py` reads it."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

from kueue.config_reading import default_config_place, read_config, shown
from kueue.errors import ConfigError
from kueue.private_files import create_file, make_directories
from kueue.text import visible

SECRET_BYTES = 48
"""Random bytes of a fresh secret; 64 characters of text."""
PLACEHOLDER = "{fresh secret}"
"""Stands in the template where the secret goes; too short to be taken for one."""


def default_config_path() -> Path:
    """`KUEUE_CONFIG`, else `~/.config/kueue/config.toml` (or where the XDG variables say)."""
    return Path(default_config_place())


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
            raise ConfigError(f"{shown(place)}: no such file") from None
        created = create_config(place)
        try:
            text = read_config(place)  # ours, or that of a program that was quicker
        except FileNotFoundError:
            raise ConfigError(f"{shown(place)}: is a link to a file that does not exist") from None
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
        raise ConfigError(f"{shown(place)}: can't write a first configuration: {reason}") from None


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
            raise ConfigError(f"{shown(place)}: line {where[1]}, column {where[2]}: {what}") from None
        last = text.count("\n") + 1
        raise ConfigError(f"{shown(place)}: line {last}: {told}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets within brackets
        raise ConfigError(
            f"{shown(place)}: contains a number or nesting that is too long to be meant"
        ) from None

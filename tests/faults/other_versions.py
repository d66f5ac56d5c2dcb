"""Installations beside the one under test: copies of the packages in a directory, as another version or to be
damaged while programs run from them."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import kueue
from tests.support.lab import Lab

PACKAGES = ("kueue", "kueue_server", "kueue_worker")
SOURCE = Path(kueue.__file__).resolve().parent.parent


def install(
    place: Path, *, version: str = "", protocol: tuple[int, int] | None = None, keeper: int | None = None
) -> Path:
    """A copy of the packages below `place`.

    Args:
        version: the programs' own version, if another.
        protocol: the oldest and the newest protocol version that it speaks.
        keeper: its version of the protocol between agent and keeper.
    """
    for package in PACKAGES:
        shutil.copytree(SOURCE / package, place / package, ignore=shutil.ignore_patterns("*.pyc.*"))
    if version:
        _patch(place / "kueue/__init__.py", "__version__", f'"{version}"')
    if protocol is not None:
        _patch(place / "kueue/wire/versions.py", "PROTOCOL_MIN", str(protocol[0]))
        _patch(place / "kueue/wire/versions.py", "PROTOCOL_MAX", str(protocol[1]))
    if keeper is not None:
        _patch(place / "kueue_worker/keeper_link.py", "PROTOCOL_VERSION", str(keeper))
        _patch(place / "kueue_worker/keeper/wire.py", "VERSION", str(keeper))
    return place


def _patch(path: Path, name: str, value: str) -> None:
    text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", path.read_text())
    assert count == 1, f"{path} has no {name}"
    path.write_text(text)


@contextlib.contextmanager
def programs_of(lab: Lab, installation: Path) -> Iterator[None]:
    """What the lab starts meanwhile comes from there."""
    before = dict(lab.env)
    lab.env["PYTHONPATH"] = str(installation)
    lab.env["PYTHONSAFEPATH"] = "1"  # not from the directory that the tests run in
    try:
        yield
    finally:
        lab.env.clear()
        lab.env.update(before)


def break_installation(place: Path) -> None:
    """Put other files in the place of all: an import of any of them fails from now on."""
    for package in PACKAGES:
        for path in (place / package).rglob("*"):
            if path.is_file():
                path.unlink()  # as an installer does: a new file, not new content of the old one
                path.write_text("raise ImportError('from another version')\n")

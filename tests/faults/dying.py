"""A server that dies at a call on its journal's files, and clients that don't wait for it to come back."""

from __future__ import annotations

from pathlib import Path

from kueue import Client
from tests.support.lab import SECRET, Lab


def journal_of(lab: Lab) -> Path:
    return lab.state / "server" / "journal.sqlite"


def files_of(journal: Path) -> list[Path]:
    return [journal.with_name(journal.name + end) for end in ("", "-wal", "-journal")]


def client_of(lab: Lab) -> Client:
    return Client(address=(lab.host, lab.port), secret=SECRET, connect_timeout=0.0)

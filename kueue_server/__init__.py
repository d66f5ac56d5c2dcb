"""The server: one process with the job table, the scheduler, the licences and the journal."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """The program `kueue_server`."""
    from kueue_server.daemon import main as run

    return run(argv)

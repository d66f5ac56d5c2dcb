"""The worker: offers a machine's free room to the server and runs what it is handed.

Two processes: the agent (all of this package but `keeper`) decides and talks, the keeper is the parent of
the jobs. This module stays light, because the keeper starts through it; it must not import the agent.
"""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """The program `kueue_worker`."""
    from kueue_worker.daemon import main as run

    return run(argv)

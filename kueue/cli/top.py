"""`kueue top`: the live screen, where its library is installed."""

from __future__ import annotations

import importlib.util
import os
import sys

from kueue.cli.command import command
from kueue.cli.session import Session
from kueue.errors import UsageError

MISSING = "kueue top needs Textual: pip install 'kueue[top]'"


@command()
def top(session: Session) -> int:
    """Watch jobs, workers and licences on a live screen."""
    if importlib.util.find_spec("textual") is None:
        raise UsageError(MISSING)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("kueue top needs a terminal; kueue status and kueue list-jobs do without")
    session.connected().close()  # what is wrong is said before the screen is taken
    from kueue import AsyncClient
    from kueue.top.app import TopApp

    # screen keeps an Esc back while it watches for a mouse, until the next key.
    TopApp(AsyncClient(session.config)).run(mouse="STY" not in os.environ)
    return 0

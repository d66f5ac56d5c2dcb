"""`kueue cmd` in the table of commands. A plain submit of one job does not come here: see `plain_cmd.py`."""

from __future__ import annotations

from typing import Any

from kueue.cli.cmd_options import OPTIONS
from kueue.cli.command import Argument, command
from kueue.cli.session import Session
from kueue.cli.submit import submit


@command(
    Argument("words", "COMMAND...", "What to run, with its own options.", "any"), *OPTIONS, ends_options=True
)
def cmd(session: Session, words: list[str], **values: Any) -> int:
    """Run a command on a free machine.

    Prints the job's id. Everything after the first word that is no option belongs to the command.
    """
    return submit(session, words, values)

"""What a server that is told to end says of its jobs. Pure."""

from __future__ import annotations

WAIT = ("1 job waits; it is kept", "{} jobs wait; they are kept")
RUN_ON = ("1 job runs on; its worker waits", "{} jobs run on; their workers wait")
INTERRUPTED = ("1 running job is interrupted; it starts", "{} running jobs are interrupted; they start")
RUN_TO_THE_END = (
    "1 job runs to its end; then its worker ends",
    "{} jobs run to their end; then their workers end",
)
"""Of one job, and of several."""


def farewell(unfinished: int, running: int, *, workers: bool, kill: bool) -> tuple[str, ...]:
    """A line for the jobs that have not started, and one for those that run. `workers` end, too; `kill`: at once."""
    lines = []
    if unfinished:
        lines.append(f"{_said(WAIT, unfinished)} for the next start of the server")
    if running and not workers:
        lines.append(f"{_said(RUN_ON, running)} for the server to come back")
    elif running and kill:
        lines.append(f"{_said(INTERRUPTED, running)} again later")
    elif running:
        lines.append(_said(RUN_TO_THE_END, running))
    return tuple(lines)


def _said(texts: tuple[str, str], number: int) -> str:
    return texts[0] if number == 1 else texts[1].format(number)

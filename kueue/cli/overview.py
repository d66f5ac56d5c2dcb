"""`kueue --help`: all commands on one screen of 80×24, by families. The help of each command is typer's."""

from __future__ import annotations

from kueue.cli.commands import FAMILIES

WIDTH = 79
"""The last column of a terminal is left alone."""
LINES = 24
MARGIN = 10
"""For the name of a family."""
COLUMNS = 2
ROOM = (WIDTH - MARGIN) // COLUMNS - 15
"""For the few words about a command, after its name."""

BRIEFS = {
    "cmd": "run a command",
    "list-jobs": "what is going on",
    "show-job": "all about a job",
    "explain": "why a job waits",
    "logs": "a job's output",
    "wait-job": "wait for jobs",
    "remove-job": "cancel jobs",
    "rerun-job": "run them again",
    "set-job": "change waiting",
    "clean-jobs": "drop old ones",
    "list-queues": "named queues",
    "pause-queue": "start no more",
    "resume-queue": "start them again",
    "set-queue": "weight and limit",
    "load": "jobs from a file",
    "dump": "a queue to a file",
    "restore": "and back",
    "remove-queue": "cancel all of it",
    "list-workers": "the machines",
    "show-worker": "all about one",
    "pause-worker": "no jobs there",
    "resume-worker": "jobs there again",
    "list-resources": "licences",
    "status": "all on one screen",
    "top": "the same, live",
    "up": "start it here",
    "down": "end it here",
    "backup": "copy the journal",
    "shutdown": "end the server",
    "reload": "read configuration",
    "forget-worker": "its jobs are dead",
    "complete": "shell completion",
}
"""A few words for each command."""

HEAD = (
    "Usage: kueue [-c PATH] [--color auto|always|never] [--version] COMMAND ...",
    "Run commands on whichever machine is free.",
)
FOOT = (
    "kueue COMMAND --help has its options, man kueue the rest.",
    "Exit codes: 0 done; 1 no (unknown job, some job failed); 2 usage; 3 no server.",
)


def overview() -> list[str]:
    """The lines of the help."""
    lines = [*HEAD]
    for family, names in FAMILIES.items():
        entries = [_entry(name) for name in names]
        rows = -(-len(entries) // COLUMNS)
        for row in range(rows):
            label = family if row == 0 else ""
            lines.append(f"{label:<{MARGIN}}{''.join(entries[row::rows])}".rstrip())
    if len(lines) + len(FOOT) + 2 < LINES:
        lines = [*HEAD, "", *lines[len(HEAD) :], ""]
    return [*lines, *FOOT]


def _entry(name: str) -> str:
    return f"{name:<15}{BRIEFS[name]:<{ROOM}}"

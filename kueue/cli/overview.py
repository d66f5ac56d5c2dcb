"""`kueue --help`: all commands on one screen of 80×24, by families. The help of each command stays typer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

WIDTH = 79
"""The last column of a terminal is left alone."""
LINES = 24
MARGIN = 10
"""For the name of a family."""
COLUMNS = 2
MORE = "…"

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
    "list-workers": "the machines",
    "show-worker": "all about one",
    "pause-worker": "no jobs there",
    "resume-worker": "jobs there again",
    "list-resources": "licences",
    "list-queues": "named queues",
    "pause-queue": "start no more",
    "resume-queue": "start them again",
    "remove-queue": "cancel all of it",
    "set-queue": "weight and limit",
    "load": "jobs from a file",
    "dump": "a queue to a file",
    "restore": "and back",
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
"""A few words for each command; one that has none here is told by the beginning of its help."""

HEAD = (
    "Usage: kueue [-c PATH] [--color auto|always|never] [--version] COMMAND ...",
    "Run commands on whichever machine is free.",
)
FOOT = (
    "kueue COMMAND --help has its options, man kueue the rest.",
    "Exit codes: 0 done; 1 no (unknown job, some job failed); 2 usage; 3 no server.",
)


class Overview(TyperGroup):
    """The group of all commands, with a help that fits."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Nothing at all asks for help, too."""
        if not args:
            typer.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write it."""
        formatter.write("\n".join(overview(self.commands)) + "\n")


def overview(commands: Mapping[str, Any]) -> list[str]:
    """The lines of the help, of typer's commands by name."""
    families: dict[str, list[str]] = {}
    for name, command in commands.items():
        if not command.hidden:
            family = getattr(command, "rich_help_panel", None) or ""
            families.setdefault(family, []).append(_entry(name, command))
    lines = [*HEAD]
    for family, entries in families.items():
        rows = -(-len(entries) // COLUMNS)
        for row in range(rows):
            label = family if row == 0 else ""
            lines.append(f"{label:<{MARGIN}}{''.join(entries[row::rows])}".rstrip())
    if len(lines) + len(FOOT) + 2 < LINES:
        lines = [*HEAD, "", *lines[len(HEAD) :], ""]
    return [*lines, *FOOT]


def _entry(name: str, command: Any) -> str:
    width = (WIDTH - MARGIN) // COLUMNS
    room = width - 15
    brief = BRIEFS.get(name) or (command.get_short_help_str(200) or "").rstrip(".")
    if len(brief) >= room:
        brief = brief[: room - 2] + MORE
    return f"{name:<15}{brief:<{room}}"

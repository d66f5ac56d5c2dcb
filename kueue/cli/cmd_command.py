"""`kueue cmd` as typer has it: the table of options as parameters."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from kueue.cli.cmd_options import OPTIONS
from kueue.cli.parameters import parameter_of, sign
from kueue.cli.session import session_of
from kueue.cli.submit import submit


def cmd(context: typer.Context, command: list[str] | None = None, **values: Any) -> int:
    """Run a command on a free machine.

    Prints the job's id. Everything after the first word that is no option belongs to the command.
    """
    given = {name: [] if value is None and _IS_MANY[name] else value for name, value in values.items()}
    return submit(session_of(context), command or [], given)


_IS_MANY = {option.parameter: option.kind == "many" for option in OPTIONS}

sign(
    cmd,
    [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        inspect.Parameter(
            "command",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                list[str] | None,
                typer.Argument(metavar="COMMAND...", help="What to run, with its own options."),
            ],
        ),
        *map(parameter_of, OPTIONS),
    ],
)

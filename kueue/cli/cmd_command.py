"""`kueue cmd` as typer has it: the table of options as parameters."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from kueue.cli.cmd_options import OPTIONS, Option
from kueue.cli.session import session_of
from kueue.cli.submit import submit

_TYPES = {"text": str, "number": int, "flag": bool, "many": list[str]}


def cmd(context: typer.Context, command: list[str] | None = None, **values: Any) -> int:
    """Run a command on a free machine.

    Prints the job's id. Everything after the first word that is no option belongs to the command.
    """
    given = {name: [] if value is None and _IS_MANY[name] else value for name, value in values.items()}
    return submit(session_of(context), command or [], given)


_IS_MANY = {option.parameter: option.kind == "many" for option in OPTIONS}


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = _TYPES[option.kind]
    if option.default is None:
        kind = kind | None
    shown = typer.Option(*option.flags, metavar=option.metavar, help=option.help)
    return inspect.Parameter(
        option.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=Annotated[kind, shown],
    )


def _signature() -> inspect.Signature:
    """Of `cmd` for typer, which reads parameters of functions."""
    words = typer.Argument(metavar="COMMAND...", help="What to run, with its own options.")
    return inspect.Signature(
        [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            inspect.Parameter(
                "command",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[list[str] | None, words],
            ),
            *map(_parameter, OPTIONS),
        ]
    )


cmd.__signature__ = _signature()  # type: ignore[attr-defined]
cmd.__annotations__ = {
    name: parameter.annotation
    for name, parameter in cmd.__signature__.parameters.items()  # type: ignore[attr-defined]
}

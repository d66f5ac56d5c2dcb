"""A command of our tables as typer wants it: a function whose parameters say what there is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from kueue.cli.command import Argument, Command, Option

_TYPES = {"text": str, "number": int, "flag": bool, "many": list[str]}


def function_of(command: Command) -> Callable[..., int]:
    """The function that typer is to call, with the session in its context."""

    def called(context: typer.Context, **given: Any) -> int:
        for option in command.options:
            if option.kind == "many" and given[option.parameter] is None:
                given[option.parameter] = []
        for argument in command.arguments:
            if given[argument.parameter] is None:
                given[argument.parameter] = []
        return command.call(context.obj, **given)

    own = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [own, *map(_of_argument, command.arguments), *map(_of_option, command.options)]
    called.__doc__ = command.help
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {found.name: found.annotation for found in parameters}
    return called


def _of_option(option: Option) -> inspect.Parameter:
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


def _of_argument(argument: Argument) -> inspect.Parameter:
    kind: Any = str if argument.kind == "one" else list[str]
    default: Any = inspect.Parameter.empty
    if argument.kind == "any":
        kind, default = kind | None, None
    shown = typer.Argument(metavar=argument.metavar, help=argument.help)
    return inspect.Parameter(
        argument.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, shown],
    )

"""A command of our tables as typer wants it: a function whose parameters say what there is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from kueue.cli.command import LISTS, Argument, Command, Option

_TYPES = {"text": str, "number": int, "flag": bool, "many": list[str]}


def function_of(command: Command) -> Callable[..., int]:
    """The function that typer is to call, with the session in its context."""
    parts: list[Option | Argument] = [*command.options, *command.arguments]
    lists = [part.parameter for part in parts if part.kind in LISTS]

    def called(context: typer.Context, **given: Any) -> int:
        for name in lists:
            if given[name] is None:
                given[name] = []
        return command.call(context.obj, **given)

    called.__doc__ = command.help
    sign(called, [*map(_of_argument, command.arguments), *map(of_option, command.options)])
    return called


def sign(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Give a function these parameters after `context`, for typer to see."""
    found = [keyword("context", typer.Context), *parameters]
    function.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in found}


def of_option(option: Option) -> inspect.Parameter:
    """An option as a keyword parameter."""
    kind: Any = _TYPES[option.kind]
    if option.default is None:
        kind = kind | None
    shown = typer.Option(*option.flags, metavar=option.metavar, help=option.help)
    return keyword(option.parameter, Annotated[kind, shown], option.default)


def _of_argument(argument: Argument) -> inspect.Parameter:
    kind: Any = list[str] if argument.kind in LISTS else str
    default: Any = inspect.Parameter.empty
    if argument.kind == "any":
        kind, default = kind | None, None
    shown = typer.Argument(metavar=argument.metavar, help=argument.help)
    return keyword(argument.parameter, Annotated[kind, shown], default)


def keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A keyword parameter; without a default it must be given."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

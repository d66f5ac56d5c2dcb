"""Options of commands as tables, and the parameters that typer reads off a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from kueue.cli.cmd_options import Option

_TYPES = {"text": str, "number": int, "flag": bool, "many": list[str]}


def parameter_of(option: Option) -> inspect.Parameter:
    """An option as a keyword parameter."""
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


def sign(function: Callable[..., int], parameters: list[inspect.Parameter]) -> None:
    """Give a function the parameters that typer is to see."""
    signature = inspect.Signature(parameters)
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {name: found.annotation for name, found in signature.parameters.items()}


def with_options(*options: Option) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A command that takes these options, as well as its own, and is given their values as `values`, by parameter."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def called(**given: Any) -> int:
            values = {option.parameter: given.pop(option.parameter) for option in options}
            for option in options:
                if option.kind == "many" and values[option.parameter] is None:
                    values[option.parameter] = []
            return command(values=values, **given)

        own = inspect.signature(command, eval_str=True).parameters.values()
        kept = [own_parameter for own_parameter in own if own_parameter.name != "values"]
        keywords = [found.replace(kind=inspect.Parameter.KEYWORD_ONLY) for found in kept]
        sign(called, [*keywords, *map(parameter_of, options)])
        return called

    return decorate

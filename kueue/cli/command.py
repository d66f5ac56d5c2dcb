"""What a command of `kueue` takes, as a table: typer's commands and the quick parser are both made of it.

Imports nothing at run time: a command that is called a thousand times is in a hurry.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    OptionKind = Literal["text", "number", "many", "flag"]
    ArgumentKind = Literal["one", "some", "any"]

LISTS = frozenset({"many", "some", "any"})
"""Kinds whose values are lists."""


class Option:
    """`kind`: `text` and `number` take a value, `many` too and may be repeated, a `flag` takes none."""

    def __init__(
        self,
        parameter: str,
        flags: tuple[str, ...],
        kind: OptionKind,
        help: str,
        metavar: str | None = None,
        default: str | int | bool | None = None,
    ) -> None:
        self.parameter = parameter
        self.flags = flags
        self.kind = kind
        self.help = help
        self.metavar = metavar
        self.default = default


class Argument:
    """A word that is no option, or several. `kind`: `one`, or as the last `some` (one or more), `any` (or none)."""

    def __init__(self, parameter: str, metavar: str, help: str, kind: ArgumentKind = "one") -> None:
        self.parameter = parameter
        self.metavar = metavar
        self.help = help
        self.kind = kind


class Command:
    """`call(session, **values)` is given a value for each option and argument, by parameter, and returns the exit
    code. `ends_options`: all after the first word that is no option are arguments, whatever they look like."""

    def __init__(
        self, call: Callable[..., int], parts: tuple[Option | Argument, ...], *, ends_options: bool
    ) -> None:
        self.call = call
        self.options = tuple(part for part in parts if isinstance(part, Option))
        self.arguments = tuple(part for part in parts if isinstance(part, Argument))
        self.ends_options = ends_options
        self.help = call.__doc__ or ""


def command(*parts: Option | Argument, ends_options: bool = False) -> Callable[[Callable[..., int]], Command]:
    """A command that takes these, in the order of its help."""
    return lambda call: Command(call, parts, ends_options=ends_options)


def flag(parameter: str, flags: tuple[str, ...], help: str) -> Option:
    """An option without a value."""
    return Option(parameter, flags, "flag", help, None, False)


JSON = flag("as_json", ("--json",), "As JSON (docs/json.md).")

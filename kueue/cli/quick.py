"""The command line without typer: loading that takes longer than all the rest of most commands.

Only calls that are surely right are parsed here; for help, mistakes and all that is unusual there is typer.
"""

from __future__ import annotations

from typing import Any

from kueue.cli.cmd_options import OPTIONS
from kueue.cli.command import LISTS, Argument, Command, Option
from kueue.cli.commands import COLOURS, GLOBAL, NAMES, find

NOT_PLAIN = ("each_line", "from_json", "array", "max_running")
"""Options with which there are many jobs."""


class Submit:
    """A plain `kueue cmd`: the values of its options by parameter, each of them given, and the job's command."""

    def __init__(self, config: str | None, colour: str, values: dict[str, Any], words: list[str]) -> None:
        self.config = config
        self.colour = colour
        self.values = values
        self.words = words


class Call:
    """Any command: the values of its options and arguments by parameter, each of them given."""

    def __init__(self, config: str | None, colour: str, command: Command, values: dict[str, Any]) -> None:
        self.config = config
        self.colour = colour
        self.command = command
        self.values = values


class Scanned:
    """Options in their order, each with its value, and the position of the first word after them. `ended`: by `--`."""

    def __init__(self, found: list[tuple[Option, str]], position: int, *, ended: bool) -> None:
        self.found = found
        self.position = position
        self.ended = ended


def parse_submit(arguments: list[str]) -> Submit | None:
    """`[global options] cmd [options] COMMAND…`, for one job; None for anything else."""
    before = _before(arguments)
    if before is None or before.name != "cmd":
        return None
    after = scan(before.words, OPTIONS)
    if after is None:
        return None
    values = _values(OPTIONS, after.found)
    rest = before.words[after.position :]
    if values is None or not rest or any(values[name] for name in NOT_PLAIN):
        return None
    return Submit(before.config, before.colour, values, rest)


def parse(arguments: list[str]) -> Call | None:
    """`[global options] command [options and arguments]`; None for what typer has to look at."""
    before = _before(arguments)
    if before is None:
        return None
    command = find(before.name)
    if command is None:
        return None
    apart = _apart(before.words, command)
    if apart is None:
        return None
    given, found = apart
    options, rest = _values(command.options, found), _assigned(given, command.arguments)
    if options is None or rest is None:
        return None
    return Call(before.config, before.colour, command, options | rest)


def name_in(arguments: list[str]) -> str | None:
    """The command that these are for; None if that is not plain."""
    before = _before(arguments)
    return before.name if before is not None and before.name in NAMES else None


def scan(words: list[str], options: tuple[Option, ...]) -> Scanned | None:
    """The options at the beginning; None for what is no option of these."""
    by_flag = {flag: option for option in options for flag in option.flags}
    found: list[tuple[Option, str]] = []
    position = 0
    while position < len(words):
        word = words[position]
        if len(word) < 2 or not word.startswith("-"):
            break
        position += 1
        if word == "--":
            return Scanned(found, position, ended=True)
        flag, equals, value = word.partition("=")
        if not word.startswith("--"):
            flag, equals, value = word[:2], word[2:], word[2:]
        option = by_flag.get(flag)
        while option is not None and option.kind == "flag" and equals and not word.startswith("--"):
            found.append((option, ""))  # several letters in one word
            flag, equals, value = f"-{value[0]}", value[1:], value[1:]
            option = by_flag.get(flag)
        if option is None or (option.kind == "flag" and equals):
            return None
        if option.kind != "flag" and not equals:
            if position == len(words):
                return None
            value = words[position]
            position += 1
        found.append((option, value))
    return Scanned(found, position, ended=False)


class _Before:
    """The global options' values, the command's name, and the words after it."""

    def __init__(self, config: str | None, colour: str, name: str, words: list[str]) -> None:
        self.config = config
        self.colour = colour
        self.name = name
        self.words = words


def _before(arguments: list[str]) -> _Before | None:
    """What is before the command's own words; None if that is not plain."""
    scanned = scan(arguments, GLOBAL)
    values = None if scanned is None else _values(GLOBAL, scanned.found)
    if scanned is None or values is None or values["colour"] not in COLOURS:
        return None
    name, *words = arguments[scanned.position :] or [""]
    return _Before(values["config"], values["colour"], name, words)


def _apart(words: list[str], command: Command) -> tuple[list[str], list[tuple[Option, str]]] | None:
    """The words that are no options, and the options, which may stand among them; None for what is no option."""
    given: list[str] = []
    found: list[tuple[Option, str]] = []
    while words:
        scanned = scan(words, command.options)
        if scanned is None:
            return None
        found += scanned.found
        words = words[scanned.position :]
        if scanned.ended or command.ends_options:
            return given + words, found
        given += words[:1]
        words = words[1:]
    return given, found


def _assigned(words: list[str], arguments: tuple[Argument, ...]) -> dict[str, Any] | None:
    """Words to arguments, in their order; None if they are too few or too many."""
    values: dict[str, Any] = {}
    for argument in arguments:
        if argument.kind == "one":
            if not words:
                return None
            values[argument.parameter], words = words[0], words[1:]
        else:
            if argument.kind == "some" and not words:
                return None
            values[argument.parameter], words = words, []
    return None if words else values


def _values(options: tuple[Option, ...], found: list[tuple[Option, str]]) -> dict[str, Any] | None:
    """A value for each option; None if one is not plain."""
    values: dict[str, Any] = {
        option.parameter: [] if option.kind in LISTS else option.default for option in options
    }
    for option, value in found:
        if option.kind == "many":
            values[option.parameter].append(value)
        elif option.kind == "flag":
            values[option.parameter] = True
        elif option.kind == "number":
            digits = value.removeprefix("-")
            if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
                return None
            values[option.parameter] = int(value)
        else:
            values[option.parameter] = value
    return values

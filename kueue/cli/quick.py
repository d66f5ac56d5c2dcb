"""`kueue cmd` without typer: loading that would take longer than all the rest of a submit.

Only calls that are surely right are parsed here; for help, mistakes and all that is unusual there is typer.
"""

from __future__ import annotations

from typing import Any

from kueue.cli.cmd_options import OPTIONS, Option

GLOBAL = (
    Option("config", ("-c", "--config"), "text", ""),
    Option("colour", ("--color",), "text", "", None, "auto"),
)


NOT_PLAIN = ("each_line", "from_json", "array", "max_running")
"""Options with which there are many jobs."""


class Call:
    """`values` by parameter, each of them given; `config` and `colour` are the global options."""

    def __init__(self, config: str | None, colour: str, values: dict[str, Any], command: list[str]) -> None:
        self.config = config
        self.colour = colour
        self.values = values
        self.command = command


def parse_cmd(arguments: list[str]) -> Call | None:
    """`[global options] cmd [options] COMMAND…`; None for anything else."""
    before = _parse(arguments, GLOBAL)
    if before is None or before[1][:1] != ["cmd"] or before[0]["colour"] not in ("auto", "always", "never"):
        return None
    after = _parse(before[1][1:], OPTIONS)
    if after is None or not after[1] or any(after[0][name] for name in NOT_PLAIN):
        return None
    return Call(before[0]["config"], before[0]["colour"], after[0], after[1])


def _parse(words: list[str], options: tuple[Option, ...]) -> tuple[dict[str, Any], list[str]] | None:
    """Values, and the words from the first on that is no option; None if that is not plain."""
    scanned = scan(words, options)
    if scanned is None:
        return None
    found, position = scanned
    values: dict[str, Any] = {
        option.parameter: [] if option.kind == "many" else option.default for option in options
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
    return values, words[position:]


def scan(words: list[str], options: tuple[Option, ...]) -> tuple[list[tuple[Option, str]], int] | None:
    """Options in their order, each with its value, and the position of the first word that is none; None for
    what is no option of these."""
    by_flag = {flag: option for option in options for flag in option.flags}
    found: list[tuple[Option, str]] = []
    position = 0
    while position < len(words):
        word = words[position]
        if len(word) < 2 or not word.startswith("-"):
            break
        position += 1
        if word == "--":
            break
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
    return found, position

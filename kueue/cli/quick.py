"""`kueue cmd` without typer: loading that would take longer than all the rest of a submit.

Only calls that are surely right are parsed here; for help, mistakes and all that is unusual there is typer.
"""

from __future__ import annotations

from typing import Any

from kueue.cli.cmd_options import OPTIONS, Option

_GLOBAL = (
    Option("config", ("-c", "--config"), "text", ""),
    Option("colour", ("--color",), "text", "", None, "auto"),
)


class Call:
    """`values` by parameter, each of them given; `config` and `colour` are the global options."""

    def __init__(self, config: str | None, colour: str, values: dict[str, Any], command: list[str]) -> None:
        self.config = config
        self.colour = colour
        self.values = values
        self.command = command


def parse_cmd(arguments: list[str]) -> Call | None:
    """`[global options] cmd [options] COMMAND…`; None for anything else."""
    before = _parse(arguments, _GLOBAL)
    if before is None or before[1][:1] != ["cmd"] or before[0]["colour"] not in ("auto", "always", "never"):
        return None
    after = _parse(before[1][1:], OPTIONS)
    if after is None or not after[1]:
        return None
    return Call(before[0]["config"], before[0]["colour"], after[0], after[1])


def _parse(words: list[str], options: tuple[Option, ...]) -> tuple[dict[str, Any], list[str]] | None:
    """Values, and the words from the first on that is no option; None if that is not plain."""
    by_flag = {flag: option for option in options for flag in option.flags}
    values: dict[str, Any] = {
        option.parameter: [] if option.kind == "many" else option.default for option in options
    }
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
        if option is None:
            return None
        if option.kind == "flag":
            if equals:  # also several letters in one word
                return None
            values[option.parameter] = True
            continue
        if not equals:
            if position == len(words):
                return None
            value = words[position]
            position += 1
        if option.kind == "many":
            values[option.parameter].append(value)
        elif option.kind == "number":
            digits = value.removeprefix("-")
            if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
                return None
            values[option.parameter] = int(value)
        else:
            values[option.parameter] = value
    return values, words[position:]

#!/usr/bin/env python3
"""Writes the man pages in `man/` from the command line itself: one for each program and each command of `kueue`.

Run it when an option or a command has changed: `python tools/man_pages.py`. `--check` writes nothing, and fails if a
page is not as it should be.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from kueue import __version__
from kueue.cli.app import make_app
from kueue.supervise import cli as supervisor
from kueue_server import daemon as server
from kueue_worker import daemon as worker

PLACE = Path(__file__).resolve().parent.parent / "man"

EXIT_CODES = (
    ("0", "done"),
    ("1", "the answer is no: unknown job, some job failed"),
    ("2", "bad usage or configuration"),
    ("3", "the server can't be reached, or it refused us"),
    ("124", "wait-job --timeout: time is over"),
    ("125", "cmd --wait, --follow: the job was canceled or lost, or never ran"),
    ("127", "cmd --wait, --follow: no machine that fits has its program"),
    ("130", "Ctrl-C"),
)
ENVIRONMENT = (
    ("KUEUE_CONFIG", "The configuration file; --config counts more."),
    ("KUEUE_GROUP", "The group of selectors that name no jobs and no group."),
    ("KUEUE_STATE_DIR", "Where the state is kept; the configuration's state_dir counts less."),
    ("NO_COLOR", "If set to anything, there are no colours."),
)
FILES = (
    (
        "~/.config/kueue/config.toml",
        "The configuration of all programs. Whoever can read it can run programs as you.",
    ),
    ("~/.local/state/kueue", "Journal of the server, logs."),
    ("/var/tmp/kueue-UID", "Spool of a worker: its records, and output of jobs."),
)
PROGRAMS = ("kueue", "kueue_server", "kueue_worker", "kueue_restart_workers")


def pages() -> dict[str, str]:
    """Name of each file, and what is in it."""
    group = typer.main.get_command(make_app())
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    found = {"kueue.1": "\n".join(_kueue(group, commands)) + "\n"}
    for name, command in commands.items():
        found[f"kueue-{name}.1"] = "\n".join(_command(name, command)) + "\n"
    for module, brief in (
        (server, "holds the jobs and hands them to workers"),
        (worker, "runs jobs on this machine"),
        (supervisor, "keeps workers and the server alive over ssh"),
    ):
        parser = module.argument_parser()
        found[f"{parser.prog}.1"] = "\n".join(_program(parser, brief)) + "\n"
    return found


# ---------------------------------------------------------------- the pages


def _kueue(group: Any, commands: dict[str, Any]) -> Iterator[str]:
    yield from _head("kueue", "run commands on whichever machine is free")
    yield from _synopsis("kueue", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]")
    yield ".SH DESCRIPTION"
    yield _text(
        "Jobs are commands. A server holds them and hands them to workers, which run on the machines that have room."
        " On a single machine, kueue cmd starts a local server and worker by itself."
    )
    yield ".SH OPTIONS"
    yield from _options(group)
    families: dict[str, list[str]] = {}
    for name, command in commands.items():
        families.setdefault(getattr(command, "rich_help_panel", None) or "Others", []).append(name)
    yield ".SH COMMANDS"
    for family, names in families.items():
        yield f".SS {_text(family)}"
        for name in names:
            yield ".TP"
            yield f"\\fBkueue\\-{_text(name)}\\fR(1)"
            yield _text(_first_line(commands[name].help))
    yield from _list("EXIT STATUS", EXIT_CODES)
    yield from _list("ENVIRONMENT", ENVIRONMENT)
    yield from _list("FILES", FILES)
    yield from _see_also("kueue", *(f"kueue-{name}" for name in commands))


def _command(name: str, command: Any) -> Iterator[str]:
    title = f"kueue-{name}"
    yield from _head(title, _first_line(command.help))
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    shown = " ".join(_argument(parameter) for parameter in arguments)
    yield from _synopsis(f"kueue {name}", f"[\\fIoptions\\fR] {shown}".rstrip())
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help)
    for parameter in arguments:
        if getattr(parameter, "help", None):
            yield ".TP"
            yield f"\\fI{_text(_metavar(parameter))}\\fR"
            yield _text(parameter.help)
    yield ".SH OPTIONS"
    yield from _options(command)
    yield ".SH EXIT STATUS"
    yield "See \\fBkueue\\fR(1)."
    yield from _see_also(title)


def _program(parser: argparse.ArgumentParser, brief: str) -> Iterator[str]:
    yield from _head(parser.prog, brief)
    yield from _synopsis(parser.prog, "[\\fIoptions\\fR]")
    yield ".SH DESCRIPTION"
    yield _text(parser.description or "")
    yield ".SH OPTIONS"
    for action in parser._actions:
        value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
        yield from _option(action.option_strings, str(value), action.help or "")
    if parser.epilog:
        yield ".SH EXIT STATUS"
        yield _text(parser.epilog.removeprefix("Exit codes: "))
    yield from _list("FILES", FILES)
    yield from _see_also(parser.prog)


# ---------------------------------------------------------------- their parts


def _head(title: str, brief: str) -> Iterator[str]:
    yield '.\\" Made by tools/man_pages.py.'
    yield f'.TH {_text(title.upper())} 1 "" "Kueue {__version__}" "Kueue"'
    yield ".SH NAME"
    brief = brief.rstrip(".")
    yield f"{_text(title)} \\- {_text(brief[:1].lower() + brief[1:])}"


def _synopsis(call: str, rest: str) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield f"\\fB{_text(call)}\\fR {rest}".rstrip()


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            flags = [*parameter.opts, *parameter.secondary_opts]
            value = "" if parameter.is_flag else _metavar(parameter)
            yield from _option(flags, value, parameter.help or "")
    yield from _option(["-h", "--help"], "", "Show the options.")


def _option(flags: Iterable[str], value: str, help: str) -> Iterator[str]:
    shown = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in flags)
    yield ".TP"
    yield f"{shown} \\fI{_text(value)}\\fR" if value else shown
    yield _text(help % {"prog": "", "default": ""} if "%(" in help else help)


def _argument(parameter: Any) -> str:
    name = f"\\fI{_text(_metavar(parameter).removesuffix('...'))}\\fR"
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _list(heading: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f".SH {heading}"
    for word, meaning in entries:
        yield ".TP"
        yield f"\\fB{_text(word)}\\fR"
        yield _text(meaning)


def _see_also(title: str, *more: str) -> Iterator[str]:
    others = [name for name in (*PROGRAMS, *more) if name != title]
    yield ".SH SEE ALSO"
    yield ",\n".join(f"\\fB{_text(name)}\\fR(1)" for name in others)


def _paragraphs(help: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", help.strip())):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _first_line(help: str) -> str:
    return " ".join(help.strip().split("\n\n")[0].split())


def _text(text: str) -> str:
    """As roff takes it: a hyphen is one that can be copied, and no line is a request."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("–", "\\(en")
    return f"\\&{shown}" if shown[:1] in (".", "'") else shown


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if something would change")
    check = parser.parse_args().check
    wanted = pages()
    there = {path.name: path.read_text() for path in PLACE.glob("*.1")} if PLACE.exists() else {}
    if there == wanted:
        return 0
    if check:
        changed = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        print(f"not as they should be: {', '.join(changed)}; python tools/man_pages.py", file=sys.stderr)
        return 1
    PLACE.mkdir(exist_ok=True)
    for name in there.keys() - wanted.keys():
        (PLACE / name).unlink()
    for name, text in wanted.items():
        (PLACE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

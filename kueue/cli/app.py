"""The command line as typer has it: help, mistakes, and all that the quick parser does not take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kueue import __version__
from kueue.cli.commands import COLOURS, FAMILIES, GLOBAL, NAMES, find
from kueue.cli.outcome import OURS, outcome
from kueue.cli.overview import overview
from kueue.cli.parameters import function_of, keyword, of_option, sign
from kueue.cli.quick import name_in
from kueue.cli.session import Session
from kueue.errors import UsageError


class _Group(TyperGroup):
    """The group of all commands, with a help that fits."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write it."""
        formatter.write("\n".join(overview()) + "\n")


def make_app(names: Iterable[str] = NAMES) -> typer.Typer:
    """The program, with these commands."""
    app = typer.Typer(
        name="kueue",
        cls=_Group,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    family_of = {name: family for family, members in FAMILIES.items() for name in members}
    for name in names:
        command = find(name)
        assert command is not None
        settings = {"allow_interspersed_args": False} if command.ends_options else None
        app.command(name, rich_help_panel=family_of[name], context_settings=settings)(function_of(command))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kueue {__version__}")
        raise typer.Exit


_VERSION = typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")


def _global_options(context: typer.Context, config: str | None, colour: str, version: bool) -> None:
    """Run commands on whichever machine is free."""
    if colour not in COLOURS:
        raise UsageError("--color is auto, always or never")
    context.obj = Session(config, colour)


sign(_global_options, [*map(of_option, GLOBAL), keyword("version", Annotated[bool, _VERSION], False)])


def run(arguments: list[str]) -> int:
    """Parse, run; every error becomes a line on stderr and a code."""

    def call() -> object:
        name = name_in(arguments)  # the others need not be loaded for it
        try:
            return make_app(NAMES if name is None else (name,))(
                arguments, prog_name="kueue", standalone_mode=False
            )
        except typer.Abort:
            return 130

    return outcome(call, usage_code=OURS if _waits(arguments) else 2)


def _waits(arguments: list[str]) -> bool:
    """`cmd` with --wait or --follow among its own options: then 2 might be mistaken for the command's code."""
    return "cmd" in arguments and any(word in arguments for word in ("-w", "--wait", "-f", "--follow"))

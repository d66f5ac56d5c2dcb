"""The command line as typer has it: help, mistakes, and all that the quick parser does not take."""

from __future__ import annotations

from typing import Annotated

import typer

from kueue import __version__
from kueue.cli.commands import COLOURS, FAMILIES, find
from kueue.cli.outcome import OURS, outcome
from kueue.cli.overview import Overview
from kueue.cli.parameters import function_of
from kueue.cli.session import Session
from kueue.errors import UsageError

EXIT_CODES = (
    "Exit codes: 0 done; 1 the answer is no (unknown job, some job failed); 2 bad usage or configuration; "
    "3 the server can't be reached or refused us. With cmd --wait: the command's own, 125 for ours."
)

app = typer.Typer(
    name="kueue",
    cls=Overview,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kueue {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option("-c", "--config", metavar="PATH", help="Configuration file.")
    ] = None,
    colour: Annotated[
        str, typer.Option("--color", metavar="WHEN", help="Colours: auto, always or never.")
    ] = "auto",
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Run commands on whichever machine is free."""
    if colour not in COLOURS:
        raise UsageError("--color is auto, always or never")
    context.obj = Session(config, colour)


def _add_commands() -> None:
    for family, names in FAMILIES.items():
        for name in names:
            command = find(name)
            assert command is not None
            settings = {"allow_interspersed_args": False} if command.ends_options else None
            app.command(name, rich_help_panel=family, context_settings=settings)(function_of(command))


_add_commands()


def run(arguments: list[str]) -> int:
    """Parse, run; every error becomes a line on stderr and a code."""

    def call() -> object:
        try:
            return app(arguments, prog_name="kueue", standalone_mode=False)
        except typer.Abort:
            return 130

    return outcome(call, usage_code=OURS if _waits(arguments) else 2)


def _waits(arguments: list[str]) -> bool:
    """`cmd` with --wait or --follow among its own options: then 2 might be mistaken for the command's code."""
    return "cmd" in arguments and any(word in arguments for word in ("-w", "--wait", "-f", "--follow"))

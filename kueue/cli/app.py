"""The table of commands: families, global options, and what becomes of errors."""

from __future__ import annotations

from typing import Annotated

import typer

from kueue import __version__
from kueue.cli import (
    changing,
    cluster,
    cmd_command,
    explaining,
    listing,
    loading,
    output,
    queues,
    rerunning,
    serving,
    status,
    steering,
    top,
)
from kueue.cli.outcome import OURS, outcome
from kueue.cli.overview import Overview
from kueue.cli.session import Session
from kueue.errors import UsageError

EXIT_CODES = (
    "Exit codes: 0 done; 1 the answer is no (unknown job, some job failed); 2 bad usage or configuration; "
    "3 the server can't be reached or refused us. With cmd --wait: the command's own, 125 for ours."
)
JOBS, QUEUES, CLUSTER, SERVER = "Jobs", "Queues", "Machines", "Kueue"

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
    if colour not in ("auto", "always", "never"):
        raise UsageError("--color is auto, always or never")
    context.obj = Session(config, colour)


_OWN_OPTIONS_END = {"allow_interspersed_args": False}

app.command("cmd", rich_help_panel=JOBS, context_settings=_OWN_OPTIONS_END)(cmd_command.cmd)
app.command("list-jobs", rich_help_panel=JOBS)(listing.list_jobs)
app.command("show-job", rich_help_panel=JOBS)(listing.show_job)
app.command("explain", rich_help_panel=JOBS)(explaining.explain)
app.command("logs", rich_help_panel=JOBS)(output.logs)
app.command("wait-job", rich_help_panel=JOBS)(changing.wait_job)
app.command("remove-job", rich_help_panel=JOBS)(changing.remove_job)
app.command("rerun-job", rich_help_panel=JOBS)(rerunning.rerun_job)
app.command("set-job", rich_help_panel=JOBS)(rerunning.set_job)
app.command("clean-jobs", rich_help_panel=JOBS)(changing.clean_jobs)
app.command("list-queues", rich_help_panel=QUEUES)(queues.list_queues)
app.command("pause-queue", rich_help_panel=QUEUES)(queues.pause_queue)
app.command("resume-queue", rich_help_panel=QUEUES)(queues.resume_queue)
app.command("set-queue", rich_help_panel=QUEUES)(queues.set_queue)
app.command("load", rich_help_panel=QUEUES, context_settings=_OWN_OPTIONS_END)(loading.load)
app.command("dump", rich_help_panel=QUEUES)(loading.dump)
app.command("restore", rich_help_panel=QUEUES)(loading.restore)
app.command("remove-queue", rich_help_panel=QUEUES)(queues.remove_queue)
app.command("list-workers", rich_help_panel=CLUSTER)(cluster.list_workers)
app.command("show-worker", rich_help_panel=CLUSTER)(cluster.show_worker)
app.command("pause-worker", rich_help_panel=CLUSTER)(steering.pause_worker)
app.command("resume-worker", rich_help_panel=CLUSTER)(steering.resume_worker)
app.command("list-resources", rich_help_panel=CLUSTER)(cluster.list_resources)
app.command("status", rich_help_panel=CLUSTER)(status.status)
app.command("top", rich_help_panel=CLUSTER)(top.top)
app.command("up", rich_help_panel=SERVER)(serving.up)
app.command("down", rich_help_panel=SERVER)(serving.down)
app.command("backup", rich_help_panel=SERVER)(serving.backup)
app.command("shutdown", rich_help_panel=SERVER)(serving.shutdown)
app.command("reload", rich_help_panel=SERVER)(serving.reload)
app.command("forget-worker", rich_help_panel=SERVER)(serving.forget_worker)


@app.command("complete", rich_help_panel=SERVER)
def complete(shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> int:
    """Print a completion script: eval "$(kueue complete bash)"."""
    from kueue.cli.completion import print_script

    return print_script(shell)


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

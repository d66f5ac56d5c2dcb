"""`kueue cmd`: submit a command, and wait for it or follow it if asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kueue.cli import options
from kueue.cli.awaiting import await_job
from kueue.cli.session import Session, session_of
from kueue.errors import KueueError, UsageError
from kueue.job_spec import JobSpec

OURS = 125
"""Exit code with --wait for whatever is not the command's own doing."""


def cmd(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", help="What to run, with its own options.")
    ] = None,
    job_slots: Annotated[
        str, typer.Option("-j", "--job-slots", metavar="N", help="Job slots it takes.")
    ] = "1",
    cpus: Annotated[str | None, typer.Option("-c", "--cpus", metavar="N", help="CPUs it needs.")] = None,
    ram: Annotated[
        str | None, typer.Option("-r", "--ram-mb", metavar="N", help="Memory in MB, or 512M, 16G.")
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option("--resource", metavar="NAME[=N]", help="Licence or other resource (many)."),
    ] = None,
    stdout: Annotated[
        str | None, typer.Option("-o", "--stdout", metavar="PATH", help="File for stdout; null discards.")
    ] = None,
    stderr: Annotated[
        str | None, typer.Option("-e", "--stderr", metavar="PATH", help="File for stderr; null discards.")
    ] = None,
    cwd: Annotated[str | None, typer.Option("-C", "--cwd", metavar="DIR", help="Run it there.")] = None,
    wait: Annotated[
        bool, typer.Option("-w", "--wait", help="Wait; print its return code and exit with it.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Wait; pass its output through, exit with its code.")
    ] = False,
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    group: Annotated[
        str | None, typer.Option("-g", "--group", metavar="NAME", help="Group it belongs to.")
    ] = None,
    priority: Annotated[
        int, typer.Option("-p", "--priority", metavar="N", help="-1000 to 1000, higher first.")
    ] = 0,
    max_restarts: Annotated[
        int, typer.Option("--max-restarts", metavar="N", help="Starts again so often if its worker is lost.")
    ] = 5,
    no_restart: Annotated[bool, typer.Option("--no-restart", help="Run it at most once.")] = False,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="DUR", help="End it after 90s, 15m, 1h30m, 2d.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="Set a variable, or keep yours (many)."),
    ] = None,
    clean_env: Annotated[
        bool, typer.Option("--clean-env", help="Only PATH, HOME, and the like of your environment.")
    ] = False,
    worker: Annotated[
        list[str] | None, typer.Option("--worker", metavar="GLOB", help="Only on these workers (many).")
    ] = None,
    not_worker: Annotated[
        list[str] | None, typer.Option("--not-worker", metavar="GLOB", help="Not on these workers (many).")
    ] = None,
) -> int:
    """Run a command on a free machine.

    Prints the job's id. Everything after the first word that is no option belongs to the command.
    """
    session = session_of(context)
    try:
        directory = _directory(cwd)
        words = _command(command or [], directory)
        spec = JobSpec(
            words,
            cpus=options.amount(cpus, "--cpus", 1),
            ram_mb=options.ram_mb(ram),
            job_slots=options.amount(job_slots, "--job-slots", 1) or 1,
            resources=options.resources(resource or ()),
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            name=name,
            group=os.environ.get("KUEUE_GROUP", "") if group is None else group,
            priority=priority,
            max_restarts=max_restarts,
            restart=not no_restart,
            time_limit=options.duration(time_limit),
            env=options.environment(env or ()),
            clean_env=clean_env,
            workers=tuple(worker or ()),
            not_workers=tuple(not_worker or ()),
        )
        return _submit(session, spec, wait=wait, follow=follow)
    except KueueError as error:
        if not (wait or follow):
            raise
        session.terminal.say(f"kueue: {error}")
        return OURS


def _submit(session: Session, spec: JobSpec, *, wait: bool, follow: bool) -> int:
    with session.connected_or_started() as client:
        jobs = client.submit_many([spec])
        job = jobs[0].id
        for warning in jobs.warnings:
            session.terminal.say(f"kueue: job {job}: {warning.text}")
        if not (wait or follow):
            session.terminal.print([str(job)])
            return 0
        return await_job(session.terminal, client, job, follow=follow)


def _directory(wanted: str | None) -> str | None:
    if wanted is None:
        return None
    if not os.path.isdir(wanted):
        raise UsageError(f"-C {wanted}: no such directory")
    return wanted


def _command(words: list[str], directory: str | None) -> list[str]:
    if not words:
        raise UsageError("which command? e.g. kueue cmd ./script.sh; kueue cmd --help shows the options")
    if not words[0].strip():
        raise UsageError("the command is empty")
    if len(words) == 1 and any(character.isspace() for character in words[0]):
        place = Path(directory or ".") / words[0]
        if not place.exists():
            raise UsageError(f"{words[0]!r} is one word; for a line of shell: kueue cmd sh -c '{words[0]}'")
    return words

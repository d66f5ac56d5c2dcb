"""`wait-job`, `remove-job`, `clean-jobs`."""

from __future__ import annotations

from typing import Annotated

import typer

from kueue.cli import options
from kueue.cli.awaiting import wait_for_jobs
from kueue.cli.session import session_of
from kueue.wire.messages import Range

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="The jobs.")]


def wait_job(
    context: typer.Context,
    jobs: Ids,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DUR", help="Give up after so long (exit code 124).")
    ] = None,
) -> int:
    """Wait until jobs have finished; 0 if all succeeded."""
    session = session_of(context)
    numbers = [options.job_id(job) for job in jobs]
    seconds = options.duration(timeout)
    with session.connected() as client:
        return wait_for_jobs(session.terminal, client, numbers, seconds)


def remove_job(
    context: typer.Context,
    jobs: Ids,
    kill: Annotated[bool, typer.Option("-k", "--kill", help="Also if it runs: end it.")] = False,
) -> int:
    """Cancel jobs."""
    session = session_of(context)
    numbers = [options.job_id(job) for job in jobs]
    with session.connected() as client:
        done = client.cancel(numbers, kill=kill)
    say = session.terminal.say
    for number in _each(done.running):
        say(f"job {number} runs; kueue remove-job --kill {number} ends it")
    for number in _each(done.finished):
        say(f"job {number} has finished already")
    for number in _each(done.unknown):
        say(f"no job {number}")
    return 1 if done.running or done.finished or done.unknown else 0


def _each(ranges: tuple[Range, ...]) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


def clean_jobs(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Failed ones too.")] = False,
) -> int:
    """Drop succeeded and canceled jobs from the list."""
    session = session_of(context)
    with session.connected() as client:
        dropped = client.clean(failed=everything)
    session.terminal.say(f"{dropped} jobs dropped")
    return 0

"""`wait-job`, `remove-job`, `clean-jobs`."""

from __future__ import annotations

from typing import Any

from kueue.cli import options
from kueue.cli.awaiting import wait_for_jobs
from kueue.cli.command import Option, command, flag
from kueue.cli.selecting import (
    CARE,
    EVERYTHING,
    IDS,
    SELECTOR,
    are_single_ids,
    changing_selector_of,
    decide,
    many,
    selector_of,
)
from kueue.cli.session import Session
from kueue.job import FINISHED, UNFINISHED, JobState
from kueue.wire.messages import Canceled, Range
from kueue.wire.selector import is_open


@command(
    IDS,
    Option("timeout", ("--timeout",), "text", "Give up after so long (exit code 124).", "DUR"),
    *SELECTOR,
    EVERYTHING,
)
def wait_job(session: Session, jobs: list[str], timeout: str | None, **values: Any) -> int:
    """Wait until jobs have finished; 0 if all succeeded."""
    selector = changing_selector_of(jobs, values)
    seconds = options.duration(timeout)
    with session.connected() as client:
        if are_single_ids(jobs, selector):
            return wait_for_jobs(session.terminal, client, [first for first, _ in selector.ranges], seconds)
        found = client.select(selector)
        if not found.ranges:
            session.terminal.say("no job is selected")
            return 1
        return wait_for_jobs(session.terminal, client, found, seconds)


@command(IDS, flag("kill", ("-k", "--kill"), "Also those that run: end them."), *SELECTOR, EVERYTHING, *CARE)
def remove_job(session: Session, jobs: list[str], kill: bool, **values: Any) -> int:
    """Cancel jobs."""
    selector = changing_selector_of(jobs, values)
    with session.connected() as client:
        if are_single_ids(jobs, selector) and not values["dry_run"]:
            return _tell_each(session, client.cancel([first for first, _ in selector.ranges], kill=kill))
        able = UNFINISHED if kill else UNFINISHED - {JobState.RUNNING}
        decided = decide(session, client, selector, values, "cancel", able, has_ids=bool(jobs))
        if isinstance(decided, int):
            return decided
        done = client.cancel(decided, kill=kill)
    parts = [f"{many(done.canceled)} canceled"]
    running, finished = _number(done.running), _number(done.finished)
    if running:
        parts.append(f"{running} run (--kill ends them)")
    if finished:
        parts.append(f"{finished} had finished")
    session.terminal.say("; ".join(parts))
    return 0


def _tell_each(session: Session, done: Canceled) -> int:
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


def _number(ranges: tuple[Range, ...]) -> int:
    return sum(last - first + 1 for first, last in ranges)


@command(IDS, *SELECTOR, flag("everything", ("-a", "--all"), "Failed ones too."), *CARE)
def clean_jobs(session: Session, jobs: list[str], **values: Any) -> int:
    """Drop succeeded and canceled jobs from the list."""
    selector = selector_of(jobs, values)
    failed = values["everything"]
    with session.connected() as client:
        if is_open(selector) and not values["dry_run"]:
            session.terminal.say(f"{client.clean(failed=failed)} jobs dropped")
            return 0
        able = {JobState.SUCCEEDED, JobState.CANCELED} | ({JobState.FAILED} if failed else set())
        if selector.states:
            able = set(FINISHED)
        decided = decide(session, client, selector, values, "drop", able, has_ids=bool(jobs))
        if isinstance(decided, int):
            return 0
        done = client.clean_selected(decided, failed=failed)
    kept = f"; {done.kept} stay" if done.kept else ""
    session.terminal.say(f"{many(done.dropped)} dropped{kept}")
    return 0

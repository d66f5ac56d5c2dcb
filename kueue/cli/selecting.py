"""Which jobs a command is about: one table of options for every verb, and the question before many are changed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from kueue.cli import options
from kueue.cli.command import Argument, Option, flag
from kueue.cli.session import Session
from kueue.client import Client
from kueue.directories import current_directory
from kueue.errors import UnknownJobError, UsageError
from kueue.job import JobState
from kueue.wire.codec import to_os
from kueue.wire.messages import JobCounts, JobsSelected, Selector
from kueue.wire.selector import fault_of, is_open

ONE_ID = Argument("job", "ID", "The job, or last, the newest.")
IDS = Argument("jobs", "ID", "Ids, ranges (20-400), or last, the newest.", "any")

SELECTOR = (
    Option("group", ("-g", "--group"), "text", "Of this group (default: KUEUE_GROUP).", "NAME"),
    Option("queue", ("-q", "--queue"), "text", "Of this queue.", "NAME"),
    Option("name", ("--name",), "text", "With such a name.", "GLOB"),
    Option("cwd", ("--cwd",), "text", "With this directory, or one below.", "DIR"),
    Option("state", ("--state",), "many", "In these states: pending,running (many).", "S,..."),
    Option("worker", ("--worker",), "text", "On such workers or hosts, now or last.", "GLOB"),
    Option("since", ("--since",), "text", "Submitted, started or finished within 90s, 2h, 3d.", "DUR"),
    Option("exit_code", ("--exit-code",), "text", "Finished with this code.", "N"),
)
"""All of them hold together, with the ids, too."""
EVERYTHING = flag("everything", ("--all",), "All jobs.")
CARE = (
    flag("yes", ("-y", "--yes"), "Don't ask."),
    flag("dry_run", ("--dry-run",), "Only list which jobs."),
)
_WORD = "a job is a number, a range like 20-400, or last"


def selector_of(words: list[str], values: Mapping[str, Any]) -> Selector:
    """What ids and options say.

    Raises:
        UsageError: they can't be meant.
    """
    ranges = [_range(word) for word in words if word != "last"]
    group = values["group"]
    if group is None and not words and not values["everything"]:
        group = os.environ.get("KUEUE_GROUP") or None
    states = [state for listed in values["state"] for state in listed.split(",") if state]
    since = values["since"]
    code = values["exit_code"]
    selector = Selector(
        ranges=tuple(ranges),
        states=tuple(dict.fromkeys(states)),
        group=group or None,
        queue=values["queue"],
        last="last" in words,
        name=values["name"],
        cwd=None if values["cwd"] is None else to_os(_directory(values["cwd"])),
        worker=values["worker"],
        since_seconds=options.duration(since),
        exit_code=options.amount(code, "--exit-code", 0),
        everything=values["everything"],
    )
    fault = fault_of(selector)
    if fault is not None:
        raise UsageError(fault[1])
    return selector


def changing_selector_of(words: list[str], values: Mapping[str, Any]) -> Selector:
    """As `selector_of`, for a command that must be told which jobs.

    Raises:
        UsageError: it is not.
    """
    selector = selector_of(words, values)
    if is_open(selector) and not selector.everything:
        raise UsageError("which jobs? give ids, a condition such as -g GROUP or --state failed, or --all")
    return selector


def are_single_ids(words: list[str], selector: Selector) -> bool:
    """Nothing but ids, one by one: then each is spoken of by itself, and nothing is asked."""
    alone = selector == Selector(ranges=selector.ranges)
    return bool(words) and alone and all(first == last for first, last in selector.ranges)


def decide(
    session: Session,
    client: Client,
    selector: Selector,
    values: Mapping[str, Any],
    what: str,
    able: Collection[JobState],
    *,
    has_ids: bool,
) -> Selector | int:
    """How many jobs that is, and whether it is really meant: the selector, which leaves out what is submitted
    meanwhile, or the exit code of a command that changes nothing. `what` is to be done to them, e.g. `cancel`, which
    can be done to jobs that are `able`.

    Raises:
        UsageError: nobody can be asked, and `-y` is missing.
    """
    terminal = session.terminal
    found = client.select(selector)
    if not total(found.counts):
        terminal.say("no job is selected")
        return 1
    number = sum(getattr(found.counts, state) for state in able)
    others = total(found.counts) - number
    question = f"{what} {described(found.counts, able)}"
    if others:
        question += f", not {others} in other states"
    if values["dry_run"]:
        _list(session, client, selector, able)
        terminal.say(f"would {question}")
        return 0
    if number > 1 and not values["yes"]:
        if sys.stdin.isatty() and sys.stderr.isatty():
            sys.stdout.flush()
            sys.stderr.write(f"{question}? [y/N] ")
            sys.stderr.flush()
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                terminal.say("nothing was changed")
                return 1
        elif not has_ids:
            raise UsageError(f"to {question}, give -y: there is no terminal to ask on")
    return bound(selector, found)


def _list(session: Session, client: Client, selector: Selector, able: Collection[JobState]) -> None:
    """The jobs that something would be done to."""
    from kueue.cli.render.jobs import job_lines

    states = tuple(state for state in selector.states or JobState if state in able)
    if not states:
        return
    terminal = session.terminal
    which = msgspec.structs.replace(selector, states=states)
    jobs = list(client.job_views(which=which, limit=_MOST_LISTED))
    terminal.print(job_lines(jobs, time.time(), terminal.width, colour=terminal.colour))
    if len(jobs) == _MOST_LISTED:
        terminal.say("and perhaps more")


_MOST_LISTED = 10_000


def bound(selector: Selector, found: JobsSelected) -> Selector:
    """The same jobs, whatever is submitted from now on."""
    ranges = selector.ranges
    if selector.last:
        ranges = (*ranges, (found.newest, found.newest))
    elif not ranges:
        ranges = ((1, found.newest),)
    return msgspec.structs.replace(selector, ranges=ranges, last=False)


def total(counts: JobCounts) -> int:
    """Of all states."""
    return sum(number for _, number in _by_state(counts))


def described(counts: JobCounts, states: Collection[JobState]) -> str:
    """`400 jobs (390 pending, 10 running)`, of those in these states."""
    numbers = [(number, state) for state, number in _by_state(counts) if number and state in states]
    parts = ", ".join(f"{number} {state}" for number, state in numbers)
    shown = many(sum(number for number, _ in numbers))
    return f"{shown} ({parts})" if parts else shown


def many(number: int) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} job{'s' if number != 1 else ''}"


def _by_state(counts: JobCounts) -> list[tuple[JobState, int]]:
    return [(state, getattr(counts, state.value)) for state in JobState]


def one_id(word: str) -> int | None:
    """Of the one job that a word names; None: `last`, which only the server knows.

    Raises:
        UsageError: it names none.
    """
    return None if word == "last" else options.job_id(word)


def found_job(client: Client, number: int | None) -> int:
    """The job of what `one_id` has made of a word.

    Raises:
        RequestError: the newest is wanted, and there is none.
    """
    if number is None:
        newest = next(client.jobs(which=Selector(last=True), limit=1), None)
        if newest is None:
            raise UnknownJobError("unknown_job", "there are no jobs")
        number = newest.id
    return number


def _range(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    if not dash:
        number = options.job_id(word)
        return number, number
    try:
        found = options.job_id(first), options.job_id(last)
    except UsageError:
        raise UsageError(f"{word!r}: {_WORD}") from None
    if found[0] > found[1]:
        raise UsageError(f"{word!r}: a range begins with the lower number")
    return found


def _directory(text: str) -> str:
    return os.path.normpath(os.path.join(current_directory(), os.path.expanduser(text)))

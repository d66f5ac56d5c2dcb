"""Which jobs a request is about: one selector for every verb, and what is wrong with one.

Plain data and its judgement; what the conditions mean for a job is the server's business
(`kueue_server/core/selection.py`), how people write one is the command line's (`kueue/cli/selecting.py`).
"""

from __future__ import annotations

import math

import msgspec

from kueue.job import JobState
from kueue.wire.words import OsString, Range

MAX_RANGES = 10_000
"""Ranges of ids in one request."""
MAX_TEXT = 1000
"""Characters of a name, group or pattern."""
MAX_PATH = 8192
_STATES = frozenset(state.value for state in JobState)


class Selector(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which jobs; all conditions hold together, one that is left out does not restrict.

    `ranges` and `last` (the newest job of the table) name ids, either or both. `name` and `worker` are globs, the
    latter over name and host of the worker that has the job or had it last. `cwd` is a directory, or any below it.
    `since_seconds`: submitted, started or finished at most so long ago. `exit_code`: of the last attempt of a job
    that has finished. `text` occurs in the name or in the command (its words with a space between), whatever the case.
    `everything` says that a selector without any condition is meant so.
    """

    ranges: tuple[Range, ...] = ()
    states: tuple[str, ...] = ()
    group: str | None = None
    last: bool = False
    name: str | None = None
    cwd: OsString | None = None
    worker: str | None = None
    since_seconds: float | None = None
    exit_code: int | None = None
    everything: bool = False
    text: str | None = None
    queue: str | None = None


def is_open(selector: Selector) -> bool:
    """Has it no condition at all?"""
    return msgspec.structs.replace(selector, everything=False) == Selector()


def looks_at_jobs(selector: Selector) -> bool:
    """Do its conditions need a look at each job, beyond ids, state, and group or queue, of which there are indexes?"""
    return not (
        selector.name is None
        and selector.cwd is None
        and selector.worker is None
        and selector.since_seconds is None
        and selector.exit_code is None
        and selector.text is None
        and (selector.queue is None or selector.group is None)
    )


def fault_of(selector: Selector, *, changes: bool = False) -> tuple[str, str] | None:
    """Code and text of what is wrong with a selector, None if nothing is; `changes`: it is of a verb that changes
    jobs, which takes all of them only if that is said."""
    if len(selector.ranges) > MAX_RANGES:
        return "too_many_ranges", f"at most {MAX_RANGES} ranges of ids in one request"
    if changes and is_open(selector) and not selector.everything:
        return "bad_selector", "no condition says which jobs are meant"
    unknown = [state for state in selector.states if state not in _STATES]
    if unknown:
        return "bad_selector", f"no state is named {unknown[0][:MAX_TEXT]}; there are {', '.join(JobState)}"
    for what, text in (
        ("group", selector.group),
        ("queue", selector.queue),
        ("name", selector.name),
        ("worker", selector.worker),
        ("text", selector.text),
    ):
        if text is not None and len(text) > MAX_TEXT:
            return "bad_selector", f"the {what} is longer than {MAX_TEXT} characters"
    cwd = selector.cwd
    if cwd is not None:
        path = cwd.encode(errors="surrogatepass") if isinstance(cwd, str) else cwd.b64
        if not path.startswith(b"/") or len(path) > MAX_PATH:
            return "bad_selector", f"the directory must be an absolute path of at most {MAX_PATH} bytes"
    since = selector.since_seconds
    if since is not None and not (since >= 0 and math.isfinite(since)):
        return "bad_selector", "since: a time of at least 0 seconds"
    return None

"""A job as people ask for it in Python, and its options."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import TypedDict

from msgspec import Struct
from msgspec.structs import force_setattr

from kueue.errors import UsageError
from kueue.predecessors import Predecessors
from kueue.wire.messages import DEFAULT_QUEUE

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class JobOptions(TypedDict, total=False):
    """What `Client.submit` takes besides the command: the options of `JobSpec`, which explains them."""

    cpus: int | None
    ram_mb: int | None
    job_slots: int
    resources: Mapping[str, int] | None
    stdout: Path | None
    stderr: Path | None
    cwd: Path | None
    name: str
    group: str
    queue: str
    key: str
    priority: int
    max_restarts: int
    restart: bool
    retries: int
    retry_delay: float | datetime.timedelta
    retry_on: Sequence[int]
    time_limit: float | datetime.timedelta | None
    env: Mapping[str, str] | None
    clean_env: bool
    workers: Sequence[str]
    not_workers: Sequence[str]
    after: Predecessors
    after_any: Predecessors
    on_failure: str


class ChangeOptions(TypedDict, total=False):
    """What `Client.change` changes and `Client.rerun` makes different; what is left out stays as it is. Of `resources`
    those that are named change, 0 takes one away; a `time_limit` of 0 is none."""

    cpus: int | None
    ram_mb: int | None
    job_slots: int | None
    resources: Mapping[str, int] | None
    priority: int | None
    group: str | None
    time_limit: float | datetime.timedelta | None
    queue: str | None
    release: bool


class _Words(Struct, frozen=True):
    """What may be given without its name."""

    command: Sequence[Path]


class JobSpec(_Words, frozen=True, kw_only=True):
    """A command and what it asks for: `JobSpec(["./sim", "in.dat"], cpus=4, resources={"genus": 1})`.

    Args:
        command: the program and its arguments; no shell looks at them.
        cpus, ram_mb: what it reserves; None takes the configuration's default.
        job_slots: how many of a worker's job slots it takes.
        resources: names and amounts of licences and of workers' own resources.
        stdout, stderr: files, relative to `cwd`; `"null"` discards; None keeps it for `kueue logs`.
        cwd: working directory (default: the current one).
        name, group: for people, to tell jobs apart and to find them again.
        queue: which queue it waits in; people pause, limit and weigh queues.
        key: a job whose key one of its queue has already, waiting, running or finished, is not made.
        priority: -1000 to 1000, higher first.
        max_restarts: how often it may start again after it was lost with its worker; `restart=False`: never.
        retries: how often it is tried again if it fails by its own exit code; after `retry_delay` (seconds, or a
            timedelta), and only for the codes of `retry_on`, if there are some.
        time_limit: seconds, or a timedelta, after which it is ended.
        env: variables on top of the submitter's environment; with `clean_env`, of a bare minimum of it.
        workers, not_workers: globs over names and hosts of workers. A job without `workers` in one of the
            configuration's `host_only_directories` runs on this machine only.
        after, after_any: jobs that must have succeeded, or ended, before it starts: a job or a Selector, or a list of
            such, in which ranges of ids `(first, last)` may be, too. What a Selector names is settled for each batch of
            up to a thousand jobs when it is submitted.
        on_failure: what becomes of it if one of `after` does not succeed: `cancel`, `run` (all the same), `hold`.

    Raises:
        UsageError: the command is no list of words.
    """

    cpus: int | None = None
    ram_mb: int | None = None
    job_slots: int = 1
    resources: Mapping[str, int] | None = None
    stdout: Path | None = None
    stderr: Path | None = None
    cwd: Path | None = None
    name: str = ""
    group: str = ""
    queue: str = DEFAULT_QUEUE
    key: str = ""
    priority: int = 0
    max_restarts: int = 5
    restart: bool = True
    retries: int = 0
    retry_delay: float | datetime.timedelta = 0.0
    retry_on: Sequence[int] = ()
    time_limit: float | datetime.timedelta | None = None
    env: Mapping[str, str] | None = None
    clean_env: bool = False
    workers: Sequence[str] = ()
    not_workers: Sequence[str] = ()
    after: Predecessors = ()
    after_any: Predecessors = ()
    on_failure: str = "cancel"

    def __post_init__(self) -> None:
        if isinstance(self.command, str | bytes | os.PathLike):
            raise UsageError('a command is a list of words; for a line of shell: ["sh", "-c", line]')
        try:
            force_setattr(self, "command", tuple(self.command))
        except TypeError:
            raise UsageError(f"a command is a list of words, not {self.command!r}") from None

    def __hash__(self) -> int:
        return hash(self.command)  # of all there is, mappings have none

    def __repr__(self) -> str:
        return f"JobSpec({list(self.command)!r})"


def spec_of(command: Sequence[Path] | JobSpec, options: JobOptions) -> JobSpec:
    """What `Client.submit` is given, as a spec.

    Raises:
        UsageError: a spec and options besides.
    """
    if not isinstance(command, JobSpec):
        return JobSpec(command, **options)
    if options:
        raise UsageError("a JobSpec has its own options; give either it or a command with options")
    return command

"""A job as people ask for it in Python, and how it becomes the wire's `Spec`."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from kueue.amounts import MAX_AMOUNT
from kueue.directories import Reach, current_directory
from kueue.environment import context_of, digest_of
from kueue.errors import UsageError
from kueue.predecessors import NOTHING_AWAITED, Predecessors, waits_of
from kueue.resources import Shape
from kueue.wire.codec import to_os
from kueue.wire.messages import DEFAULT_QUEUE, Changes, Command, OsString, RawBytes, Spec, Waits

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

MAX_PRIORITY = 1000
MAX_KEY = 200
"""Characters; of a longer one its hash is sent."""
MAX_RETRY_DELAY = 366 * 86400
"""Seconds."""


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


class Encoder:
    """Makes wire specs; what many jobs share (environment, volume, directory) is worked out once.

    For one call of the client: it takes environment, umask and directory as they are when it is first used.
    `reach` says which machines a directory is for, and has the warnings of all that were asked for.
    """

    def __init__(self, default_cpus: int, default_ram_mb: int, reach: Reach | None = None) -> None:
        self.reach = Reach() if reach is None else reach
        self._cpus = default_cpus
        self._ram_mb = default_ram_mb
        self._host = socket.gethostname()
        self._contexts: dict[tuple[bool, tuple[tuple[str, str], ...]], tuple[str, bytes]] = {}
        self._plain_context: tuple[str, bytes] | None = None
        self._here: str | None = None
        self._last: tuple[JobSpec, _Terms] | None = None
        self._last_waits: tuple[tuple[Predecessors, Predecessors, str] | None, Waits | None] = (None, None)

    def encode(self, job: JobSpec) -> tuple[Spec, bytes]:
        """The spec, and the encoded context that it refers to.

        Raises:
            UsageError: it can't be meant.
        """
        if not isinstance(job, JobSpec):
            raise UsageError(f"a kueue.JobSpec is needed, not {job!r}")
        words = tuple(
            [
                # Most words are plain; whatever else they may be is looked at more closely.
                word
                if type(word) is str and word.isascii() and "\0" not in word
                else _os_string("command", word)
                for word in job.command
            ]
        )
        if not words or words[0] == "":
            raise UsageError("the command is empty")
        directory = self._directory(job.cwd)
        digest, context = self._context(job)
        terms = self._terms(job)
        shape = terms.shape
        if not shape.workers and (here := self.reach.workers(directory)):
            shape = replace(shape, workers=here)
        spec = Spec(
            payload=Command(words),
            cwd=_os_string("cwd", directory),
            volume=to_os(self.reach.volume(directory)),
            shape=shape,
            context=digest,
            stdout=None if job.stdout is None else _os_string("stdout", job.stdout),
            stderr=None if job.stderr is None else _os_string("stderr", job.stderr),
            name=_text("name", job.name) if job.name != "" else "",
            group=_text("group", job.group) if job.group != "" else "",
            queue=DEFAULT_QUEUE if job.queue == DEFAULT_QUEUE else _text("queue", job.queue),
            priority=terms.priority,
            max_restarts=terms.max_restarts,
            restart=bool(job.restart),
            time_limit_seconds=terms.time_limit_seconds,
            submit_host=self._host,
            max_retries=terms.retries,
            retry_delay_seconds=terms.retry_delay_seconds,
            retry_on=terms.retry_on,
            key=_key(job.key) if job.key != "" else "",
            waits=self._waits_of(job),
        )
        return spec, context

    def _waits_of(self, job: JobSpec) -> Waits | None:
        wanted = (job.after, job.after_any, job.on_failure)
        if wanted == NOTHING_AWAITED:
            return None
        last, waits = self._last_waits
        if last is None or any(
            one is not other or type(one) is list for one, other in zip(wanted, last, strict=True)
        ):
            waits = waits_of(*wanted)
            self._last_waits = wanted, waits
        return waits

    def _directory(self, wanted: Path | None) -> str:
        if type(wanted) is str and wanted.startswith("/"):
            return os.path.normpath(wanted)
        if self._here is None:
            self._here = current_directory()
        if wanted is None:
            return self._here
        try:
            return os.path.normpath(os.path.join(self._here, os.fsdecode(wanted)))
        except TypeError:
            raise UsageError(f"cwd must be a path, not {wanted!r}") from None

    def _terms(self, job: JobSpec) -> _Terms:
        """Jobs that are submitted together mostly ask for the very same; that is checked once."""
        if self._last is not None:
            last, terms = self._last
            if (
                job.cpus is last.cpus
                and job.ram_mb is last.ram_mb
                and job.job_slots is last.job_slots
                and job.priority is last.priority
                and job.max_restarts is last.max_restarts
                and job.time_limit is last.time_limit
                and job.retries is last.retries
                and job.retry_delay is last.retry_delay
                and job.retry_on is last.retry_on
                and job.restart is last.restart
                and job.resources is last.resources is None  # a mapping or list may have changed meanwhile
                and job.workers is last.workers
                and job.not_workers is last.not_workers
                and type(job.workers) is type(job.not_workers) is tuple
                and type(job.retry_on) is tuple
            ):
                return terms
        resources = job.resources or {}
        shape = Shape(
            cpus=amount_of("cpus", self._cpus if job.cpus is None else job.cpus, 0),
            ram_mb=amount_of("ram_mb", self._ram_mb if job.ram_mb is None else job.ram_mb, 0),
            job_slots=amount_of("job_slots", job.job_slots, 1),
            resources=tuple(
                sorted(
                    [
                        (_text("name of a resource", name), amount_of(name, n, 1))
                        for name, n in resources.items()
                    ]
                )
            ),
            workers=_globs("workers", job.workers),
            not_workers=_globs("not_workers", job.not_workers),
        )
        terms = _Terms(
            shape,
            _within("priority", job.priority, -MAX_PRIORITY, MAX_PRIORITY),
            amount_of("max_restarts", job.max_restarts, 0),
            _seconds(job.time_limit),
            _retries(job),
            _delay(job.retry_delay),
            tuple(sorted({_within("exit code in retry_on", code, 1, 255) for code in job.retry_on})),
        )
        self._last = job, terms
        return terms

    def _context(self, job: JobSpec) -> tuple[str, bytes]:
        is_plain = job.env is None and job.clean_env is False
        if is_plain and self._plain_context is not None:
            return self._plain_context
        env = job.env or {}
        key = (bool(job.clean_env), tuple(env.items()))
        try:
            known = self._contexts.get(key)
        except TypeError:  # a value that is not even hashable is no text: refused below
            known = None
        if known is None:
            if len(self._contexts) > 1000:
                self._contexts.clear()
            context = context_of(os.environ, env, clean=bool(job.clean_env))
            known = self._contexts[key] = (digest_of(context), context)
        if is_plain:
            self._plain_context = known
        return known


class _Terms(NamedTuple):
    """What a job asks for besides its command, places and names; checked."""

    shape: Shape
    priority: int
    max_restarts: int
    time_limit_seconds: float | None
    retries: int
    retry_delay_seconds: float | None
    retry_on: tuple[int, ...]


def changes_of(options: ChangeOptions) -> Changes:
    """As the wire has them.

    Raises:
        UsageError: a value can't be meant.
    """
    cpus, ram_mb, slots = options.get("cpus"), options.get("ram_mb"), options.get("job_slots")
    priority, group, limit = options.get("priority"), options.get("group"), options.get("time_limit")
    queue, needs = options.get("queue"), options.get("resources") or {}
    unknown = sorted(set(options) - ChangeOptions.__annotations__.keys())
    if unknown:
        raise UsageError(f"{unknown[0]} can't be changed; {', '.join(ChangeOptions.__annotations__)} can")
    return Changes(
        cpus=None if cpus is None else amount_of("cpus", cpus, 0),
        ram_mb=None if ram_mb is None else amount_of("ram_mb", ram_mb, 0),
        job_slots=None if slots is None else amount_of("job_slots", slots, 1),
        resources=tuple(
            sorted((_text("name of a resource", name), amount_of(name, n, 0)) for name, n in needs.items())
        ),
        priority=None if priority is None else _within("priority", priority, -MAX_PRIORITY, MAX_PRIORITY),
        group=None if group is None else _text("group", group),
        time_limit_seconds=None if limit is None else _seconds(limit) if limit else 0.0,
        release=bool(options.get("release", False)),
        queue=None if queue is None else _text("queue", queue),
    )


def _retries(job: JobSpec) -> int:
    retries = amount_of("retries", job.retries, 0)
    if retries and not job.restart:
        raise UsageError(
            "a job that runs at most once (no restart) is not tried again: leave out one of the two"
        )
    return retries


def _delay(delay: object) -> float | None:
    seconds = delay.total_seconds() if isinstance(delay, datetime.timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UsageError(f"retry_delay must be seconds or a timedelta, not {delay!r}")
    if not 0 <= seconds <= MAX_RETRY_DELAY:
        raise UsageError(f"retry_delay = {seconds:g} s: must be 0 to {MAX_RETRY_DELAY}")
    return float(seconds) or None


def amount_of(what: str, value: object, least: int) -> int:
    """A whole number in range.

    Raises:
        UsageError: it is none.
    """
    return _within(what, value, least, MAX_AMOUNT)


def _within(what: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{what} must be a whole number, not {value!r}")
    if not least <= value <= most:
        raise UsageError(f"{what} = {value}: must be {least} to {most}")
    return value


def _seconds(limit: object) -> float | None:
    if limit is None:
        return None
    seconds = limit.total_seconds() if isinstance(limit, datetime.timedelta) else limit
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UsageError(f"time_limit must be seconds or a timedelta, not {limit!r}")
    if not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(f"time_limit = {seconds:g} s: must be longer than nothing, and finite")
    return float(seconds)


def _os_string(what: str, value: Path) -> OsString:
    try:
        found = to_os(value)
    except TypeError:
        raise UsageError(f"{what}: {value!r} is neither text nor a path") from None
    if (b"\0" in found.b64) if isinstance(found, RawBytes) else ("\0" in found):
        raise UsageError(f"{what}: a NUL byte can't be in {value!r}")
    return found


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"the {what} must be text, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the {what} {value!r} is not UTF-8") from None
    return value


def _key(value: object) -> str:
    text = _text("key", value)
    if len(text) <= MAX_KEY:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _globs(what: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise UsageError(f'{what} is a list of patterns, e.g. ["{values}"]')
    return tuple([_text(f"pattern in {what}", value) for value in values])

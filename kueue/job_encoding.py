"""How jobs become the wire's `Spec`, and changes of them `Changes`."""

from __future__ import annotations

import datetime
import os
import socket
from operator import attrgetter, is_

from msgspec.structs import replace

from kueue.directories import Reach, current_directory
from kueue.environment import context_of, digest_of
from kueue.errors import UsageError
from kueue.job_spec import ChangeOptions, JobSpec, Path
from kueue.job_values import (
    MAX_PRIORITY,
    amount_of,
    delay_of,
    globs_of,
    key_of,
    os_string,
    seconds_of,
    text_of,
    within,
)
from kueue.predecessors import NOTHING_AWAITED, Predecessors, waits_of
from kueue.resources import Shape
from kueue.wire.codec import to_os
from kueue.wire.messages import Changes, Command, Spec, Waits

_UNCHANGEABLE = frozenset({str, bytes, int, float, bool, type(None), datetime.timedelta})
_NO_COMMAND = Command(())
_terms_of = attrgetter(
    *("cpus", "ram_mb", "job_slots", "resources", "workers", "not_workers", "group", "queue", "priority"),
    *("max_restarts", "restart", "time_limit", "retries", "retry_delay", "retry_on"),
)
"""What a job asks for besides its command, places, names, environment and whom it waits for."""


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
        self._last_frame: tuple[tuple[object, ...], Spec | None] = ((), None)
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
                else os_string("command", word)
                for word in job.command
            ]
        )
        if not words or words[0] == "":
            raise UsageError("the command is empty")
        directory = self._directory(job.cwd)
        digest, context = self._context(job)
        frame = self._frame_of(job)
        shape = frame.shape
        if not shape.workers and (here := self.reach.workers(directory)):
            shape = replace(shape, workers=here)
        spec = replace(
            frame,
            payload=Command(words),
            cwd=os_string("cwd", directory),
            volume=to_os(self.reach.volume(directory)),
            shape=shape,
            context=digest,
            stdout=None if job.stdout is None else os_string("stdout", job.stdout),
            stderr=None if job.stderr is None else os_string("stderr", job.stderr),
            name=text_of("name", job.name) if job.name != "" else "",
            key=key_of(job.key) if job.key != "" else "",
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

    def _frame_of(self, job: JobSpec) -> Spec:
        """A spec with the terms of a job. Jobs that are submitted together mostly have the very same, which are checked
        once."""
        terms = _terms_of(job)
        last, frame = self._last_frame
        if frame is not None and all(map(is_, terms, last)):
            return frame
        resources = job.resources or {}
        needs = [
            (text_of("name of a resource", name), amount_of(name, n, 1)) for name, n in resources.items()
        ]
        frame = Spec(
            payload=_NO_COMMAND,
            cwd="",
            volume="",
            shape=Shape(
                cpus=amount_of("cpus", self._cpus if job.cpus is None else job.cpus, 0),
                ram_mb=amount_of("ram_mb", self._ram_mb if job.ram_mb is None else job.ram_mb, 0),
                job_slots=amount_of("job_slots", job.job_slots, 1),
                resources=tuple(sorted(needs)),
                workers=globs_of("workers", job.workers),
                not_workers=globs_of("not_workers", job.not_workers),
            ),
            context="",
            group=text_of("group", job.group),
            queue=text_of("queue", job.queue),
            priority=within("priority", job.priority, -MAX_PRIORITY, MAX_PRIORITY),
            max_restarts=amount_of("max_restarts", job.max_restarts, 0),
            restart=bool(job.restart),
            time_limit_seconds=seconds_of(job.time_limit),
            submit_host=self._host,
            max_retries=_retries(job),
            retry_delay_seconds=delay_of(job.retry_delay),
            retry_on=tuple(sorted({within("exit code in retry_on", code, 1, 255) for code in job.retry_on})),
        )
        self._last_frame = (terms, frame) if all(map(_is_lasting, terms)) else ((), None)
        return frame

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


def _is_lasting(term: object) -> bool:
    """Will it be what it is now? A list or a mapping may be changed."""
    if type(term) is tuple:
        return all(type(one) in _UNCHANGEABLE for one in term)
    return type(term) in _UNCHANGEABLE


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
            sorted((text_of("name of a resource", name), amount_of(name, n, 0)) for name, n in needs.items())
        ),
        priority=None if priority is None else within("priority", priority, -MAX_PRIORITY, MAX_PRIORITY),
        group=None if group is None else text_of("group", group),
        time_limit_seconds=None if limit is None else seconds_of(limit) if limit else 0.0,
        release=bool(options.get("release", False)),
        queue=None if queue is None else text_of("queue", queue),
    )


def _retries(job: JobSpec) -> int:
    retries = amount_of("retries", job.retries, 0)
    if retries and not job.restart:
        raise UsageError(
            "a job that runs at most once (no restart) is not tried again: leave out one of the two"
        )
    return retries

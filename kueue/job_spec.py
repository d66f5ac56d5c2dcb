"""A job as people ask for it in Python, and how it becomes the wire's `Spec`."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kueue.environment import context_of, digest_of, volume_of
from kueue.errors import UsageError
from kueue.resources import MAX_AMOUNT, Shape
from kueue.wire.codec import to_os
from kueue.wire.messages import Command, Spec

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What a job may ask for besides its command.

    Args:
        cpus, ram_mb: what it reserves; None takes the configuration's default.
        job_slots: how many of a worker's job slots it takes.
        resources: names and amounts of licences and of workers' own resources.
        stdout, stderr: files, relative to `cwd`; `"null"` discards; None keeps it for `kueue logs`.
        cwd: working directory (default: the current one).
        name, group: for people, to tell jobs apart and to find them again.
        priority: -1000 to 1000, higher first.
        max_restarts: how often it may start again after it was lost with its worker; `restart=False`: never.
        time_limit: seconds, or a timedelta, after which it is ended.
        env: variables on top of the submitter's environment; with `clean_env`, of a bare minimum of it.
        workers, not_workers: globs over names and hosts of workers.
    """

    cpus: int | None = None
    ram_mb: int | None = None
    job_slots: int = 1
    resources: Mapping[str, int] = field(default_factory=dict)
    stdout: Path | None = None
    stderr: Path | None = None
    cwd: Path | None = None
    name: str = ""
    group: str = ""
    priority: int = 0
    max_restarts: int = 5
    restart: bool = True
    time_limit: float | datetime.timedelta | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    clean_env: bool = False
    workers: Sequence[str] = ()
    not_workers: Sequence[str] = ()


class JobSpec(JobOptions):
    """A command and what it asks for: `JobSpec(["./sim", "in.dat"], cpus=4, resources={"genus": 1})`."""

    command: tuple[Path, ...]

    def __init__(self, command: Sequence[Path], **options: object) -> None:
        if isinstance(command, str | bytes):
            raise UsageError('a command is a list of words; for a shell line: ["sh", "-c", line]')
        super().__init__(**options)  # type: ignore[arg-type]
        object.__setattr__(self, "command", tuple(command))

    def __repr__(self) -> str:
        return f"JobSpec({[os.fsdecode(word) for word in self.command]!r})"


class Encoder:
    """Makes wire specs; what many jobs share (environment, volume, directory) is worked out once."""

    def __init__(self, default_cpus: int, default_ram_mb: int) -> None:
        self._cpus = default_cpus
        self._ram_mb = default_ram_mb
        self._host = socket.gethostname()
        self._contexts: dict[tuple[bool, tuple[tuple[str, str], ...]], tuple[str, bytes]] = {}
        self._volumes: dict[str, str] = {}
        self._here: str | None = None

    def encode(self, job: JobSpec) -> tuple[Spec, bytes]:
        """The spec, and the encoded context that it refers to.

        Raises:
            UsageError: it can't be meant.
        """
        if not job.command or not os.fsencode(job.command[0]):
            raise UsageError("the command is empty")
        directory = self._directory(job.cwd)
        digest, context = self._context(job)
        shape = Shape(
            cpus=_amount("cpus", self._cpus if job.cpus is None else job.cpus, 0),
            ram_mb=_amount("ram_mb", self._ram_mb if job.ram_mb is None else job.ram_mb, 0),
            job_slots=_amount("job_slots", job.job_slots, 1),
            resources=tuple(
                sorted((name, _amount(f"resource {name}", n, 1)) for name, n in job.resources.items())
            ),
            workers=tuple(job.workers),
            not_workers=tuple(job.not_workers),
        )
        limit = job.time_limit
        seconds = limit.total_seconds() if isinstance(limit, datetime.timedelta) else limit
        spec = Spec(
            payload=Command(tuple(map(to_os, job.command))),
            cwd=to_os(directory),
            volume=to_os(self._volume(directory)),
            shape=shape,
            context=digest,
            stdout=None if job.stdout is None else to_os(job.stdout),
            stderr=None if job.stderr is None else to_os(job.stderr),
            name=job.name,
            group=job.group,
            priority=job.priority,
            max_restarts=job.max_restarts,
            restart=job.restart,
            time_limit_seconds=seconds,
            submit_host=self._host,
        )
        return spec, context

    def _directory(self, wanted: Path | None) -> str:
        if self._here is None:
            self._here = current_directory()
        if wanted is None:
            return self._here
        return os.path.normpath(os.path.join(self._here, os.fsdecode(wanted)))

    def _volume(self, directory: str) -> str:
        known = self._volumes.get(directory)
        if known is None:
            if len(self._volumes) > 10_000:
                self._volumes.clear()
            known = self._volumes[directory] = volume_of(directory)
        return known

    def _context(self, job: JobSpec) -> tuple[str, bytes]:
        key = (job.clean_env, tuple(sorted(job.env.items())))
        known = self._contexts.get(key)
        if known is None:
            if len(self._contexts) > 1000:
                self._contexts.clear()
            context = context_of(os.environ, job.env, clean=job.clean_env)
            known = self._contexts[key] = (digest_of(context), context)
        return known


def current_directory() -> str:
    """`$PWD` where it names the current directory (so that automounted and linked homes keep their name), else
    the physical path.

    Raises:
        UsageError: the current directory does not exist any more.
    """
    try:
        physical = os.getcwd()
        named = os.environ.get("PWD", "")
        if named.startswith("/") and os.path.samefile(named, physical):
            return os.path.normpath(named)
    except FileNotFoundError:
        raise UsageError("the current directory does not exist any more") from None
    except OSError:
        pass
    return physical


def _amount(what: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{what} must be a whole number, not {value!r}")
    if not least <= value <= MAX_AMOUNT:
        raise UsageError(f"{value} {what}: must be {least} to {MAX_AMOUNT}")
    return value

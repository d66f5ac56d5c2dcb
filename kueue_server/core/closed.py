"""Where a worker can't see: volumes and subtrees that its refusals have closed, and when to ask again.

One object per worker. A refusal names the deepest directory that exists there; the subtree below it on the
way to the job's directory is closed, or the whole volume where that says more. Mounts come and go, so one
job a minute probes each closed place; a job that starts there opens it again. A job that is held up by another
place than its directory, where its output goes or its program is, is alone kept away. What has only not answered in
time is asked again sooner, and ever more rarely: a machine that is very busy looks like a mount that hangs. Paths are
bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from kueue.wire.messages import OsString, RawBytes

PROBE_SECONDS = 60.0
FIRST_PROBE_SECONDS = 5.0
"""After the first time that a place has not answered; then twice as long each time, up to `PROBE_SECONDS`."""
SUBTREES_PER_ANCESTOR = 4
"""So many subtrees closed under one directory close its whole volume."""
SUBTREES_PER_VOLUME = 64
MOST_JOBS = 10_000
"""Of those that are kept away by themselves, in one volume; over that the first are forgotten, and so asked again."""


class Sight(enum.Enum):
    """What is known about a place on a worker."""

    OPEN = enum.auto()
    PARTLY = enum.auto()  # only of volumes: some of its subtrees or jobs are closed
    PROBE = enum.auto()  # closed, but it is time to ask again
    CLOSED = enum.auto()


class ClosedPlaces:
    """What one worker is known not to see."""

    __slots__ = ("_jobs", "_silent", "_subtrees", "_volumes")

    def __init__(self) -> None:
        self._volumes: dict[bytes, float] = {}  # -> when to probe
        self._subtrees: dict[bytes, dict[bytes, float]] = {}  # volume -> subtree -> when to probe
        self._jobs: dict[bytes, dict[int, float]] = {}  # volume -> job -> when to ask again
        self._silent: dict[bytes, tuple[float, float]] = {}  # volume -> when to ask again, after how long

    def __bool__(self) -> bool:
        return bool(self._volumes or self._subtrees or self._jobs)

    def close(self, cwd: bytes, volume: bytes, ancestor: bytes | None, now: float) -> None:
        """A job in `cwd` was refused: of the way there, `ancestor` is the last directory that exists."""
        if volume in self._volumes or ancestor is None or not _is_below(ancestor, volume):
            self.close_volume(volume, now)
            return
        base = b"" if ancestor == b"/" else ancestor
        if not _is_below(cwd, ancestor):
            self.close_volume(volume, now)
            return
        subtree = base + b"/" + cwd[len(base) + 1 :].split(b"/", 1)[0]
        closed = self._subtrees.setdefault(volume, {})
        closed[subtree] = now + PROBE_SECONDS
        siblings = sum(1 for path in closed if path.rpartition(b"/")[0] == base)
        if siblings >= SUBTREES_PER_ANCESTOR or len(closed) > SUBTREES_PER_VOLUME:
            self.close_volume(volume, now)

    def close_volume(self, volume: bytes, now: float) -> None:
        """Nothing of a volume is to be asked for, for a while."""
        self._subtrees.pop(volume, None)
        self._volumes[volume] = now + PROBE_SECONDS

    def close_silent_volume(self, volume: bytes, now: float) -> None:
        """The same, since it has not answered in time."""
        self._subtrees.pop(volume, None)
        self._volumes[volume] = self._after_silence(volume, now)

    def close_job(self, job: int, volume: bytes, now: float) -> None:
        """A place of this job has not answered in time: it is not to be asked for, for a while; others of its directory
        may be."""
        jobs = self._jobs.setdefault(volume, {})
        jobs.pop(job, None)
        jobs[job] = self._after_silence(volume, now)
        if len(jobs) > MOST_JOBS:
            del jobs[next(iter(jobs))]

    def _after_silence(self, volume: bytes, now: float) -> float:
        """When to ask again. What was on its way already counts as one time. Never before what was said of others of
        the volume: jobs are in the order of their times."""
        until, delay = self._silent.get(volume, (now, 0.0))
        if now < until:
            return until
        lasts = delay and now - until < PROBE_SECONDS
        delay = min(PROBE_SECONDS, 2 * delay) if lasts else FIRST_PROBE_SECONDS
        self._silent[volume] = now + delay, delay
        return now + delay

    def open(self, job: int, cwd: bytes, volume: bytes) -> bool:
        """A job has started in `cwd`. Returns whether that opened anything."""
        # What held this one up answers again: all that were held up in its volume are asked once more.
        answers = job in self._jobs.get(volume, ()) and self._jobs.pop(volume) is not None
        opened = self._open_place(cwd, volume)
        if (opened or answers) and volume not in self._jobs:
            self._silent.pop(volume, None)
        return opened or answers

    def _open_place(self, cwd: bytes, volume: bytes) -> bool:
        if self._volumes.pop(volume, None) is not None:
            return True
        closed = self._subtrees.get(volume)
        if closed is None:
            return False
        seen = [path for path in closed if cwd == path or _is_below(cwd, path)]
        for path in seen:
            del closed[path]
        if not closed:
            del self._subtrees[volume]
        return bool(seen)

    def clear(self) -> None:
        """Forget everything, e.g. because the machine was rebooted."""
        self._volumes.clear()
        self._subtrees.clear()
        self._jobs.clear()
        self._silent.clear()

    def volume(self, volume: bytes, now: float) -> Sight:
        """What is known of a volume."""
        probe_at = self._volumes.get(volume)
        if probe_at is not None:
            return Sight.PROBE if now >= probe_at else Sight.CLOSED
        return Sight.PARTLY if volume in self._subtrees or volume in self._jobs else Sight.OPEN

    def job(self, job: int, cwd: bytes, volume: bytes, now: float) -> Sight:
        """What is known of a job's directory, and of the job itself."""
        if now < self._jobs.get(volume, {}).get(job, now):
            return Sight.CLOSED
        return self.directory(cwd, volume, now)

    def directory(self, cwd: bytes, volume: bytes, now: float) -> Sight:
        """What is known of a directory in a volume."""
        sight = self.volume(volume, now)
        if sight is not Sight.PARTLY:
            return sight
        sight = Sight.OPEN
        for path, probe_at in self._subtrees.get(volume, {}).items():
            if cwd == path or _is_below(cwd, path):
                if now < probe_at:
                    return Sight.CLOSED
                sight = Sight.PROBE
        return sight

    def probing(self, cwd: bytes, volume: bytes, now: float) -> None:
        """A probe is on its way: no other for the same place within the next minute."""
        if volume in self._volumes:
            self._volumes[volume] = now + PROBE_SECONDS
            return
        closed = self._subtrees.get(volume, {})
        for path in closed:
            if cwd == path or _is_below(cwd, path):
                closed[path] = now + PROBE_SECONDS

    def probe_due(self, since: float, now: float) -> bool:
        """Whether a place or a job became due for a probe after `since`, up to `now`."""
        return self._drop_due_jobs(now) or any(since < at <= now for at in self._probe_times())

    def _drop_due_jobs(self, now: float) -> bool:
        """Jobs are in the order of their times. A job is its own probe: nothing is left to remember."""
        dropped = False
        for volume, jobs in list(self._jobs.items()):
            while jobs and jobs[first := next(iter(jobs))] <= now:
                del jobs[first]
                dropped = True
            if not jobs:
                del self._jobs[volume]
        return dropped

    def paths(self) -> list[bytes]:
        """All that is closed, in order."""
        closed = list(self._volumes)
        for subtrees in self._subtrees.values():
            closed += subtrees
        return sorted(closed)

    def _probe_times(self) -> Iterator[float]:
        yield from self._volumes.values()
        for subtrees in self._subtrees.values():
            yield from subtrees.values()


def path_bytes(path: OsString) -> bytes:
    """A path as the operating system knows it."""
    if isinstance(path, RawBytes):
        return path.b64
    return path.encode("utf-8", "surrogateescape")


def path_os_string(path: bytes) -> OsString:
    """A path as messages carry it."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        return RawBytes(path)


def _is_below(path: bytes, directory: bytes) -> bool:
    """Whether `path` is strictly below `directory`."""
    return len(path) > len(directory) and path.startswith(
        directory if directory == b"/" else directory + b"/"
    )

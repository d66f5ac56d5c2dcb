"""Which jobs are refused at submit because they can never run, and what to warn of for the others.

Reads the state, never changes it (but for what it remembers of shapes it has judged).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from kueue.amounts import MAX_AMOUNT
from kueue.durations import format_duration
from kueue.resources import Shape
from kueue.wire.messages import OsString, RawBytes, Reason, Spec
from kueue.wire.waits import fault_of_waits
from kueue_server.core.events import Limits
from kueue_server.core.outcomes import LONGEST_PATH
from kueue_server.core.queues import MOST_QUEUES, Queue
from kueue_server.core.shapes import KnownShape
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

MAX_PRIORITY = 1000
MAX_NAME_CHARACTERS = 1000
MAX_GLOBS = 100
MAX_RESOURCES = 100
MAX_RETRY_DELAY = 366 * 86400
_REMEMBERED = 1000

_OK = Reason("", "")


class Admission:
    """Judges specs. Shapes are judged once until the limits or the known resources change."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._judged: dict[Shape, Reason] = {}
        self._judged_for: tuple[Limits, frozenset[str]] | None = None

    def refusal_of(self, spec: Spec) -> Reason | None:
        """Why a job can never run; None if it may."""
        refusal = (
            _refusal_of_command(spec) or _refusal_of_settings(spec) or self._refusal_of_shape(spec.shape)
        )
        if refusal is None and not self._state.queues.takes(spec.queue):
            text = f"there are {MOST_QUEUES} queues already: no job can be put into a new one"
            return Reason("too_many_queues", text)
        return refusal

    def warnings_for(self, specs: Sequence[Spec]) -> tuple[Reason, ...]:
        """What the submitter should know of jobs that are accepted, each reason once."""
        queues = [
            self._state.queues.by_name.get(name) for name in dict.fromkeys(spec.queue for spec in specs)
        ]
        paused = [queue for queue in queues if queue is not None and queue.paused is not None]
        reasons = {closed(queue, None): None for queue in paused}
        connected = self._state.workers.connected()
        if not connected:
            return (*reasons, Reason("no_worker", "no worker is connected; jobs wait until one is"))
        for shape in {spec.shape: None for spec in specs}:
            known = KnownShape(0, shape)
            known.split(frozenset(self._state.ledger.totals))
            able = [
                worker
                for worker in connected
                if known.could_run_on(worker.name, worker.record.host, worker.record.capacity)
            ]
            if not able:
                reasons[no_fit(known, connected)] = None
            elif all(worker.paused is not None for worker in able):
                reasons[all_paused(able)] = None
        return tuple(reasons)

    def own_resources(self) -> frozenset[str]:
        """Resources of workers' own that any worker has announced."""
        return frozenset(
            name
            for worker in self._state.workers.by_id.values()
            for name, _ in worker.record.capacity.resources
        )

    def _refusal_of_shape(self, shape: Shape) -> Reason | None:
        judged_for = self._judged_for
        if judged_for is None or judged_for[0] is not self._state.limits or len(self._judged) > _REMEMBERED:
            self._judged = {}
            self._judged_for = (self._state.limits, self.own_resources())
        verdict = self._judged.get(shape)
        if verdict is None or verdict.code == "unknown_resource":  # a worker may have announced it since
            verdict = self._judge(shape) or _OK
            self._judged[shape] = verdict
        return None if verdict is _OK else verdict

    def _judge(self, shape: Shape) -> Reason | None:
        for what, amount, least in (
            ("CPUs", shape.cpus, 0),
            ("MB of memory", shape.ram_mb, 0),
            ("job slots", shape.job_slots, 1),
        ):
            if not least <= amount <= MAX_AMOUNT:
                return Reason("bad_amount", f"{amount} {what}: must be {least} to {MAX_AMOUNT}")
        if len(shape.resources) > MAX_RESOURCES or len(shape.workers) + len(shape.not_workers) > MAX_GLOBS:
            return Reason("bad_amount", "too many resources or worker patterns for one job")
        if any(len(glob) > MAX_NAME_CHARACTERS for glob in (*shape.workers, *shape.not_workers)):
            return Reason("bad_name", f"a worker pattern is longer than {MAX_NAME_CHARACTERS} characters")
        names = [name for name, _ in shape.resources]
        if names != sorted(set(names)):
            return Reason("bad_resource", "resources must be sorted by name, each once")
        totals = self._state.ledger.totals
        for name, amount in shape.resources:
            if not 1 <= amount <= MAX_AMOUNT:
                return Reason("bad_amount", f"{amount} of resource {name}: must be 1 to {MAX_AMOUNT}")
            if name in totals:
                if amount > totals[name]:
                    return Reason("too_much", f"{amount} of resource {name}: there are {totals[name]} in all")
            elif name not in (own := self.own_resources()):
                known = ", ".join(sorted({*totals, *own})) or "none"
                return Reason("unknown_resource", f"unknown resource {name}; known: {known}")
        return None


def no_fit(known: KnownShape, workers: Sequence[Worker]) -> Reason:
    """No connected worker is large enough and of the right name: what none of them has, or all that is needed, if each
    of it is there somewhere."""
    shape = known.shape
    has = [worker.record.capacity for worker in workers]
    wants = [
        (_count(shape.cpus, "CPU"), any(one.cpus >= shape.cpus for one in has)),
        (f"{shape.ram_mb} MB", any(one.ram_mb >= shape.ram_mb for one in has)),
    ]
    if shape.job_slots > 1:
        slots = f"{shape.job_slots} job slots"
        wants.append((slots, any(one.job_slots >= shape.job_slots for one in has)))
    for name, amount in known.own_needs:
        wants.append((f"{amount} {name}", any(dict(one.resources).get(name, 0) >= amount for one in has)))
    if shape.workers or shape.not_workers:
        patterns = ", ".join([*shape.workers, *(f"not {glob}" for glob in shape.not_workers)])
        named = any(known.takes_name(worker.name, worker.record.host) for worker in workers)
        wants.append((f"the right name ({patterns})", named))
    lacking = [text for text, is_there in wants if not is_there] or [text for text, _ in wants]
    if len(lacking) > 1 and lacking[-1].startswith("the right name"):
        lacking[-2:] = [f"{lacking[-2]} and {lacking[-1]}"]
    return Reason("no_fit", f"no connected worker has {', '.join(lacking)}")


def all_paused(workers: Sequence[Worker]) -> Reason:
    """A person has paused all that could run it."""
    first = workers[0]
    why = f": {first.paused.reason}" if first.paused is not None and first.paused.reason else ""
    return Reason("paused", f"every worker that fits is paused ({first.name}{why}); kueue resume-worker")


def closed(queue: Queue, wall: float | None) -> Reason:
    """A queue lets nothing start: it is paused (since when, if the time is told), or has as many running as it may."""
    if queue.paused is None:
        text = f"queue {queue.name} runs {queue.handed_out} of at most {queue.max_running}"
        return Reason("queue_full", text)
    since = "" if wall is None else f"for {format_duration(wall - queue.paused.since)}"
    more = ": ".join(part for part in (since, queue.paused.reason) if part)
    return Reason("queue_paused", f"queue {queue.name} is paused" + (f" ({more})" if more else ""))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _refusal_of_command(spec: Spec) -> Reason | None:
    argv = spec.payload.argv
    if not argv or argv[0] == "" or (isinstance(argv[0], RawBytes) and not argv[0].b64):
        return Reason("empty_command", "the command is empty")
    if _has_nul((*argv, spec.cwd)) or ((spec.stdout or spec.stderr) and _has_nul((spec.stdout, spec.stderr))):
        return Reason("bad_command", "a NUL byte can't be in an argument or path")
    for path, what in ((spec.cwd, "working directory"), (spec.volume, "volume")):
        if not _is_absolute(path):
            return Reason("bad_directory", f"the {what} must be an absolute path")
        if _is_too_long(path):
            return Reason("bad_directory", f"the {what} is longer than {LONGEST_PATH} bytes")
    return None


def _has_nul(texts: Iterable[OsString | None]) -> bool:
    try:
        return "\0" in "".join(texts)  # type: ignore[arg-type]
    except TypeError:  # some are bytes, or none at all
        return any(
            text is not None and ("\0" in text if isinstance(text, str) else b"\0" in text.b64)
            for text in texts
        )


def _is_absolute(path: OsString) -> bool:
    return path.startswith("/") if isinstance(path, str) else path.b64.startswith(b"/")


def _is_too_long(path: OsString) -> bool:
    if isinstance(path, str):
        return 4 * len(path) > LONGEST_PATH and len(path.encode()) > LONGEST_PATH
    return len(path.b64) > LONGEST_PATH


def _refusal_of_settings(spec: Spec) -> Reason | None:
    if not -MAX_PRIORITY <= spec.priority <= MAX_PRIORITY:
        return Reason("bad_priority", f"priority {spec.priority}: must be {-MAX_PRIORITY} to {MAX_PRIORITY}")
    if not 0 <= spec.max_restarts <= MAX_AMOUNT:
        return Reason("bad_max_restarts", f"max_restarts {spec.max_restarts}: must be 0 to {MAX_AMOUNT}")
    limit = spec.time_limit_seconds
    if limit is not None and not (limit > 0 and math.isfinite(limit)):
        return Reason("bad_time_limit", "the time limit must be longer than nothing")
    if spec.max_retries or spec.retry_delay_seconds or spec.retry_on:
        refusal = _refusal_of_retries(spec)
        if refusal is not None:
            return refusal
    if spec.max_running is not None and not 1 <= spec.max_running <= MAX_AMOUNT:
        return Reason("bad_max_running", f"max_running {spec.max_running}: must be 1 to {MAX_AMOUNT}")
    if len(spec.name) > MAX_NAME_CHARACTERS:
        return _too_long("name")
    if len(spec.group) > MAX_NAME_CHARACTERS:
        return _too_long("group")
    if len(spec.key) > MAX_NAME_CHARACTERS:
        return _too_long("key")
    if len(spec.queue) > MAX_NAME_CHARACTERS:
        return _too_long("queue")
    if not spec.queue:
        return Reason("bad_name", "the name of the queue is empty")
    if spec.waits is not None and (fault := fault_of_waits(spec.waits)) is not None:
        return Reason(*fault)
    return None


def _refusal_of_retries(spec: Spec) -> Reason | None:
    if not 0 <= spec.max_retries <= MAX_AMOUNT:
        return Reason("bad_retries", f"max_retries {spec.max_retries}: must be 0 to {MAX_AMOUNT}")
    if spec.max_retries and not spec.restart:
        return Reason("bad_retries", "a job that runs at most once is not tried again")
    if not 0 <= (spec.retry_delay_seconds or 0.0) <= MAX_RETRY_DELAY:
        return Reason("bad_retries", f"the retry delay must be 0 to {MAX_RETRY_DELAY} s")
    if len(spec.retry_on) > 255 or not all(1 <= code <= 255 for code in spec.retry_on):
        return Reason("bad_retries", "exit codes to retry on are 1 to 255")
    return None


def _too_long(what: str) -> Reason:
    return Reason("bad_name", f"the {what} is longer than {MAX_NAME_CHARACTERS} characters")

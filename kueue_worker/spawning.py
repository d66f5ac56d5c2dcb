"""The order to the keeper: everything about one start, and the environments that starts refer to."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

from kueue.job import End
from kueue.wire.codec import from_os
from kueue.wire.messages import OsString, Reason, Stream
from kueue_worker.core.events import Ended, Note
from kueue_worker.environment import own_environment
from kueue_worker.keeper_link import Message
from kueue_worker.keeper_messages import note_as_json
from kueue_worker.preparation import DISCARDED, Prepared
from kueue_worker.spool import Spool

MOST_ENVIRONMENTS = 256
"""That the keeper remembers; it forgets the least recently used first, and so do we."""


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """What every job of this worker gets: niceness, and how early the kernel is to kill it for its memory."""

    nice: int
    oom_score_adj: int


class Send(Protocol):
    """Sends to the keeper; descriptors are closed here once they are there."""

    def __call__(self, message: Message, descriptors: tuple[int, ...] = ()) -> None: ...


class Spawner:
    """Sends `env` and `spawn`."""

    def __init__(self, worker: str, policy: JobPolicy, spool: Spool, send: Send) -> None:
        self._worker = worker
        self._policy = policy
        self._spool = spool
        self._send = send
        self._sent: OrderedDict[str, None] = OrderedDict()

    def forget_environments(self) -> None:
        """The keeper is another one, or has forgotten some."""
        self._sent.clear()

    def spawn(self, job: Prepared, note: Note, room: str, until: float | None) -> Ended | None:
        """Order a start, or with `until` one in another's place of the same room, until then; how it ended already
        if that is impossible (the spool can't be written)."""
        descriptors: list[int] = []
        try:
            out = self._output(job.spec.stdout, job.outputs.stdout, note, "stdout", descriptors)
            if job.outputs.same:
                err: Any = "out"
            else:
                err = self._output(job.spec.stderr, job.outputs.stderr, note, "stderr", descriptors)
        except OSError as error:
            for descriptor in (job.outputs.stdout, job.outputs.stderr):
                if descriptor is not None:
                    os.close(descriptor)
            text = f"cannot write to the spool {self._spool.root}: {error.strerror}"
            return Ended(End.NOT_STARTED, reason=Reason("output", text))
        assert job.directory is not None, job.key
        context, spec = job.context, job.spec
        limits = context.context.limits
        message: Message = {"room": room} if until is None else {"room": room, "until": until}
        self._send(
            {
                **message,
                "m": "spawn",
                "key": job.key,
                "job": note.job,
                "attempt": note.attempt,
                "program": job.program,
                "argv": [from_os(word) for word in spec.payload.argv],
                "env": self._environment(job),
                "extra": own_environment(spec, note, self._worker, job.cwd, context.names),
                "dir": job.directory.number,
                "out": out,
                "err": err,
                "umask": context.context.umask,
                "limits": limits,
                "nice": self._policy.nice,
                "oom": self._policy.oom_score_adj,
                "time_limit": spec.time_limit_seconds,
                "note": note_as_json(note),
            },
            tuple(descriptors),
        )
        return None

    def _environment(self, job: Prepared) -> str:
        """Its name at the keeper, which is told it if need be."""
        name = job.context.digest if job.keep_tmpdir else f"{job.context.digest}-"
        if name in self._sent:
            self._sent.move_to_end(name)
            return name
        self._sent[name] = None
        while len(self._sent) > MOST_ENVIRONMENTS:
            self._sent.popitem(last=False)
        self._send({"m": "env", "id": name, "env": job.context.environment(job.keep_tmpdir)})
        return name

    def _output(
        self,
        wanted: OsString | None,
        descriptor: int | None,
        note: Note,
        stream: Stream,
        descriptors: list[int],
    ) -> Any:
        if descriptor is not None:
            descriptors.append(descriptor)
            return {"fd": True}
        if wanted == DISCARDED:
            return "null"
        self._spool.make_directory(note.journal, note.job)
        return {"path": self._spool.path(note.journal, note.job, note.attempt, stream)}

"""Faults planted in the product, to show that the simulation finds them.

Each mutant changes a few words in one function of the product, compiled anew in its module for as long as the
mutant is planted. One whose words are not there any more fails: it has to follow the code.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

import kueue.requests
import kueue.submitting
import kueue_server.core.arrivals
import kueue_server.core.attempts
import kueue_server.core.canceling
import kueue_server.core.changing
import kueue_server.core.core
import kueue_server.core.dependencies
import kueue_server.core.distrust
import kueue_server.core.failing
import kueue_server.core.gates
import kueue_server.core.holding
import kueue_server.core.leases
import kueue_server.core.placement
import kueue_server.core.programs
import kueue_server.core.queueing
import kueue_server.core.reports
import kueue_server.core.restoring
import kueue_server.core.retention
import kueue_server.core.retries
import kueue_server.core.sight
import kueue_server.core.steering
import kueue_server.core.tasks
import kueue_server.core.turns
import kueue_server.engine
import kueue_server.keys
import kueue_server.reruns
import kueue_server.submissions
import kueue_server.watch
import kueue_worker.core.ahead
import kueue_worker.core.book
import kueue_worker.core.inventory
import kueue_worker.core.machine


@dataclass(frozen=True)
class Mutant:
    """`old` words in `function` (of a class, with a dot) of `module` become `new` ones. `seed` is one that
    finds it."""

    what: str
    module: ModuleType
    function: str
    old: str
    new: str
    seed: int

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """The product has this fault meanwhile."""
        owner: Any = self.module
        *path, name = self.function.split(".")
        for part in path:
            owner = getattr(owner, part)
        original = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.function} has {source.count(self.old)} of {self.old!r}"
        code = compile(
            f"from __future__ import annotations\n{source.replace(self.old, self.new)}", name, "exec"
        )
        found: dict[str, Any] = {}
        exec(code, self.module.__dict__, found)
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(owner, name, found[name]))
            if not path:  # others may have imported it by its name
                for module in list(sys.modules.values()):
                    if module is not self.module and getattr(module, name, None) is original:
                        stack.enter_context(mock.patch.object(module, name, found[name]))
            yield


_ATTEMPTS = kueue_server.core.attempts
_ARRIVALS = kueue_server.core.arrivals
_STEERING = kueue_server.core.steering
_QUEUEING = kueue_server.core.queueing
_SUBMISSIONS = kueue_server.submissions
_MACHINE = kueue_worker.core.machine
_BOOK = kueue_worker.core.book
_GATES = kueue_server.core.gates

MUTANTS = {
    "no-attempt-check": Mutant(
        "the end of any attempt counts as the job's",
        _ATTEMPTS,
        "take_end",
        "if job is None or job.fence != end.fence or job.worker != worker.id:",
        "if job is None:",
        45,
    ),
    "acknowledge-before-commit": Mutant(
        "what depends on the journal leaves before it is written",
        kueue_server.engine,
        "Engine._pass_on",
        "self._keep_back(_Held(group, leaving, told))\n",
        "self._leave(leaving)\n        self._keep_back(_Held(group, [], told))\n",
        27,
    ),
    "answer-who-comes-at-once-at-once": Mutant(
        "jobs that the core is told of at once are answered before they are on the disk",
        kueue_server.engine,
        "Engine.post_with",
        "self._inbox.append(_WithWrite(event, write, done))\n",
        "done(None)\n    self._inbox.append(_WithWrite(event, write, lambda error: None))\n",
        44,
    ),
    "answer-submit-before-commit": Mutant(
        "a submit is answered before it is on the disk",
        _SUBMISSIONS,
        "Submissions._write_block",
        "self.write((rows,), written)",
        "[a(first, count, None) for a in self._in_flight[block.token].answers],"
        " self._in_flight[block.token].answers.clear(), self.write((rows,), written)",
        2,
    ),
    "forget-tokens": Mutant(
        "a repeated submit counts as a new one",
        _SUBMISSIONS,
        "Submissions.answer_known_token",
        "known = self._journal.token(token)",
        "known = None",
        10,
    ),
    "forget-tokens-in-flight": Mutant(
        "a submit that is repeated while the first is being written counts as a new one",
        _SUBMISSIONS,
        "Submissions.answer_known_token",
        "flight = self._in_flight.get(token)",
        "flight = None",
        80,
    ),
    "new-token-for-a-repeat": Mutant(
        "the client repeats a submit under another token",
        kueue.submitting,
        "submit",
        "batch.rid = 0",
        "batch.rid, batch.token = 0, secrets.token_hex(16)",
        10,
    ),
    "forget-ledger-on-requeue": Mutant(
        "an attempt that may live holds no licences",
        kueue_server.core.leases,
        "expire",
        "may_live=True",
        "may_live=False",
        93,
    ),
    "no-lease": Mutant(
        "a worker is lost as soon as its connection is",
        kueue_server.core.leases,
        "review",
        "silence >= timeout and",
        "silence >= 0 and",
        2,
    ),
    "own-sleep-counts": Mutant(
        "a server that slept holds it against the workers",
        kueue_server.core.core,
        "Core.handle",
        "state.late += max(0.0, event.late)",
        "pass",
        1089,
    ),
    "no-stop-for-superseded": Mutant(
        "an attempt that was handed out anew meanwhile runs on",
        _ARRIVALS,
        "adopt_running",
        'attempts.haunt(state, worker, job, running.fence, "superseded", reserves=True)\n    elif job.state in',
        "pass\n    elif job.state in",
        201,
    ),
    "at-most-once-requeued": Mutant(
        "a job to run at most once is handed out again if nobody has heard that it started",
        _ATTEMPTS,
        "lose",
        "elif (counts and why is None) or not job.restart:",
        "elif counts and why is None:",
        167,
    ),
    "missing-is-running": Mutant(
        "what a worker does not list is believed to run there",
        _ARRIVALS,
        "_miss",
        "if key in listed:",
        "if True:",
        55,
    ),
    "cancel-forgets-the-worker": Mutant(
        "a canceled attempt that can't be reached gets no stop order",
        _ATTEMPTS,
        "cancel_at_once",
        'haunt(state, worker, job, job.fence, "canceled", reserves=reserves)',
        "pass",
        82,
    ),
    "release-what-runs": Mutant(
        "a worker gives back what it has started",
        _MACHINE,
        "Machine._on_retract",
        "i.TellKept(ref)",
        "i.TellReleased(ref)",
        2,
    ),
    "forget-before-acknowledged": Mutant(
        "a worker drops the record of an end when it has told it",
        _BOOK,
        "Book._complete",
        "self.out.append(i.TellFinished(attempt.finished_at(now)))",
        "self.out += [i.TellFinished(attempt.finished_at(now)), i.DropRecords((attempt.key,))]",
        29,
    ),
    "finished-not-listed": Mutant(
        "ends that were not acknowledged are missing from the inventory",
        kueue_worker.core.inventory,
        "inventory",
        "finished.append(attempt.finished_at(now))",
        "pass",
        2,
    ),
    "keeper-ends-ignored": Mutant(
        "an agent that comes back takes the keeper's ends for losses",
        _BOOK,
        "Book.adopt",
        "self.ended(attempt, record.ended, why_interrupted, now)",
        "self.lose(attempt, Ended(End.LOST, started=record.started), now)",
        2,
    ),
    "line-without-room": Mutant(
        "one in line that starts takes up no room",
        kueue_worker.core.book,
        "Book.take_place",
        "self.take_room(attempt, now)",
        "del self.line[attempt.key]; attempt.until = None",
        2,
    ),
    "line-of-dead-keeper": Mutant(
        "what was in a dead keeper's line is thought to be in the next one's",
        _MACHINE,
        "Machine._on_keeper_ready",
        "self._on_start_undone(key, now)",
        "pass",
        19,
    ),
    "foreign-journal": Mutant(
        "a worker tells every journal of all its attempts",
        kueue_worker.core.inventory,
        "inventory",
        "if attempt.note.journal != journal:",
        "if False:",
        143,
    ),
    "pause-not-kept": Mutant(
        "a pause is forgotten with the server's life",
        _STEERING,
        "_keep_from_jobs",
        "state.outbox.write(SavePause(worker.id, since, reason))",
        "pass",
        17,
    ),
    "resume-not-kept": Mutant(
        "a pause that a person has ended is back after a restart",
        _STEERING,
        "resume",
        "state.outbox.write(DropPause(worker.id))",
        "pass",
        2,
    ),
    "paused-and-idle": Mutant(
        "a paused worker is among those that get jobs",
        kueue_server.core.placement,
        "refresh",
        "resting or worker.paused is not None",
        "resting",
        1,
    ),
    "paused-and-holding": Mutant(
        "a paused worker is given jobs to hold",
        kueue_server.core.holding,
        "_takes_held",
        "and worker.paused is None",
        "",
        180,
    ),
    "broken-without-looking-elsewhere": Mutant(
        "a worker on which some jobs fail at once is paused, wherever else they fail",
        kueue_server.core.failing,
        "is_broken",
        "return good >= most",
        "return True",
        10,
    ),
    "broken-wherever-it-fails": Mutant(
        "the failures of a worker itself count as good runs elsewhere",
        kueue_server.core.distrust,
        "_count",
        "if attempt.exit_code == 0 or",
        "if attempt.exit_code or",
        10,
    ),
    "success-is-no-excuse": Mutant(
        "a worker is taken for broken though some of its last jobs ended well",
        kueue_server.core.distrust,
        "note",
        "state.streaks.end(worker.id)",
        "pass",
        11,
    ),
    "pause-kills-what-runs-only": Mutant(
        "a pause with kill lets what was handed over start",
        _STEERING,
        "end_all",
        "worker.current_jobs()",
        "worker.running",
        11,
    ),
    "pause-kill-counts": Mutant(
        "what a pause ends counts as a loss if its worker is given up before it has said so",
        _ATTEMPTS,
        "lose",
        "(counts and why is None)",
        "counts",
        26,
    ),
    "order-to-end-not-kept": Mutant(
        "an order to end is forgotten with the server's life",
        _ATTEMPTS,
        "order_stop",
        "state.outbox.write(SaveStop(worker.id, job.id, fence, why))",
        "pass",
        1,
    ),
    "cancel-after-kill": Mutant(
        "what is canceled after a pause has ended it starts again",
        _ATTEMPTS,
        "order_stop",
        'worker.stops.get((job.id, fence)) not in (why, "canceled")',
        "(job.id, fence) not in worker.stops",
        19,
    ),
    "program-missing-somewhere": Mutant(
        "a job fails when one worker lacks its program",
        kueue_server.core.sight,
        "_all_have_refused",
        "return 0",
        "continue",
        4,
    ),
    "program-missing-away": Mutant(
        "a worker that is away for a moment is not waited for",
        kueue_server.core.sight,
        "_all_have_refused",
        "worker.session is None and (worker.lost or worker.left)",
        "worker.session is None",
        4,
    ),
    "program-missed-before": Mutant(
        "a refusal of before counts for jobs that came later",
        kueue_server.core.programs,
        "MissingPrograms._of",
        "and job <= lack.last_job",
        "",
        28,
    ),
    "retry-not-counted": Mutant(
        "a job that fails is tried again for ever",
        _ATTEMPTS,
        "_try_again",
        "job.retries += 1",
        "pass",
        4,
    ),
    "retry-lost": Mutant(
        "a job that fails while a delayed retry is due after a restart is never tried again",
        kueue_server.core.restoring,
        "_take_place",
        "state.retries.add(state.now + min(left, delay_of(job)), job.id)",
        "pass",
        25,
    ),
    "no-retry-after-a-loss": Mutant(
        "a job that was lost once is not tried again when it fails",
        kueue_server.core.retries,
        "may_retry",
        "return job.retries < asked.max_retries",
        "return not job.losses and job.retries < asked.max_retries",
        205,
    ),
    "killed-is-tried-again": Mutant(
        "a job that is to be killed and fails just then is tried again",
        _ATTEMPTS,
        "take_end",
        "if not canceled and retries.may_retry(job, end):",
        "if retries.may_retry(job, end):",
        829,
    ),
    "change-not-saved": Mutant(
        "a change is in memory only",
        kueue_server.core.changing,
        "_put",
        "state.outbox.write(SaveSpec(job.id, job.spec))",
        "pass",
        5,
    ),
    "change-of-what-runs": Mutant(
        "a job that was handed over is changed, too",
        kueue_server.core.changing,
        "Changing.apply",
        "if job.state not in (S.PENDING, S.WAITING) or job.holding:",
        "if job.state is S.RUNNING:",
        5,
    ),
    "rerun-answered-before-commit": Mutant(
        "a rerun is answered before it is on the disk",
        kueue_server.reruns,
        "Rerunning._follow",
        "self._submissions.write(tuple(blocks), written)",
        "[a(first, count, None) for a in self._submissions._in_flight[token].answers],"
        " self._submissions._in_flight[token].answers.clear(), self._submissions.write(tuple(blocks), written)",
        159,
    ),
    "new-token-for-a-repeated-rerun": Mutant(
        "the client repeats a rerun under another token",
        kueue.requests,
        "rerun",
        "return Rerun(rid, token, which, changes)",
        "return Rerun(rid, secrets.token_hex(16), which, changes)",
        201,
    ),
    "forget-the-token-of-a-rerun": Mutant(
        "a repeated rerun counts as a new one",
        kueue_server.reruns,
        "Rerunning.rerun",
        "if self._submissions.answer_known_token(message.token, content_hash, answered):",
        "if False:",
        201,
    ),
    "task-comes-back": Mutant(
        "tasks that were dropped are pending again after a restart",
        kueue_server.core.retention,
        "drop",
        "tasks.dropped(state, first, last)",
        "pass",
        33,
    ),
    "tasks-canceled-in-memory": Mutant(
        "a cancel of tasks that have no record is forgotten with the server's life",
        kueue_server.core.tasks,
        "_join",
        "_save(state, part)",
        "pass",
        9,
    ),
    "task-forgets-its-array": Mutant(
        "what has become of a task is not found after a restart",
        kueue_server.core.restoring,
        "restore",
        "job = _job(state, row) if row.spec else _task(state, row)",
        "if not row.spec:\n            continue\n        job = _job(state, row)",
        3,
    ),
    "cap-forgotten-on-loss": Mutant(
        "tasks that may run on a lost worker don't count for their array's limit",
        kueue_server.core.attempts,
        "haunt",
        "state.take(job)",
        "job.queue.shape.cap or state.take(job)",
        13,
    ),
    "tasks-told-before-commit": Mutant(
        "a submit of an array is answered before it is on the disk",
        _SUBMISSIONS,
        "Submissions._write_array",
        "self.write((block,), written)",
        "[one(first, count, None) for one in self._in_flight[array.token].answers],"
        " self._in_flight[array.token].answers.clear(), self.write((block,), written)",
        83,
    ),
    "queue-pause-not-kept": Mutant(
        "a pause of a queue is forgotten with the server's life",
        _QUEUEING,
        "pause",
        "_save(state, queue)",
        "pass",
        9,
    ),
    "queue-resume-not-kept": Mutant(
        "a pause of a queue that a person has ended is back after a restart",
        _QUEUEING,
        "resume",
        "_save(state, queue)",
        "pass",
        9,
    ),
    "queue-pause-answered-at-once": Mutant(
        "a pause of a queue is answered while what was handed over may still start",
        _QUEUEING,
        "pause",
        "asked[job.id] = job.fence",
        "pass",
        12,
    ),
    "queue-over-its-limit": Mutant(
        "a queue that is full hands out more",
        kueue_server.core.turns,
        "_open",
        " and not queue.is_full",
        "",
        11,
    ),
    "key-forgotten": Mutant(
        "a job of a key that the queue has is made again",
        kueue_server.keys,
        "Keys.sift",
        " or self._core.has_key(*name)",
        "",
        9,
    ),
    "key-on-its-way": Mutant(
        "a job of a key that is just being written is made again",
        kueue_server.keys,
        "Keys.sift",
        "flight = self._by_name.get(name)",
        "flight = None",
        29,
    ),
    "failures-let-go": Mutant(
        "a job whose predecessor failed runs",
        _GATES,
        "Gates.look",
        "if self._why_not is not None and gate.minds(self._number):",
        "if False:",
        102,
    ),
    "restart-lets-go": Mutant(
        "a server that starts again takes waiting jobs for pending ones",
        kueue_server.core.restoring,
        "_job",
        "waits = head.waits if row.progress is None else None",
        "waits = None",
        8,
    ),
    "failed-and-dropped": Mutant(
        "a failure is forgotten with its job while some that follow have not been told",
        _GATES,
        "Gates.needs",
        "if job.state is S.SUCCEEDED:",
        "if True:",
        118,
    ),
    "array-waits-for-ever": Mutant(
        "after a restart an array that waits comes to no gate",
        kueue_server.core.restoring,
        "restore",
        "tasks.wait(state, part)",
        "pass",
        14,
    ),
    "array-follows-a-failure": Mutant(
        "an array is let go though one before it failed",
        kueue_server.core.dependencies,
        "_tell_next_tasks",
        "if gate.reason is None:",
        "if True:",
        174,
    ),
    "held-in-memory-only": Mutant(
        "that a job is held is not written down",
        kueue_server.core.dependencies,
        "_tell",
        "state.outbox.save(job.id)\n",
        "pass\n",
        8,
    ),
    "one-before-is-enough": Mutant(
        "a job that waits for several is let go when the first of them has ended",
        _GATES,
        "Gates._watch",
        "found = first_in(self._table, UNFINISHED, gate.ranges, start)",
        "found = first_in(self._table, UNFINISHED, gate.ranges, start) if not start else None",
        38,
    ),
}

"""What people do in a run."""

from __future__ import annotations

import hashlib
from functools import partial

from kueue.resources import Shape
from kueue.submitting import submit, submit_array
from kueue.wire.messages import Command, Spec, Step
from tests.simulation.client import CONTEXT
from tests.simulation.following import Wish, waits_for
from tests.simulation.parts import Parts
from tests.simulation.queueing import with_keys
from tests.simulation.verbs import selector_of

DIGEST = hashlib.sha256(CONTEXT).hexdigest()


class People(Parts):
    """An action `x` of a schedule is `do_x`."""

    def do_submit(
        self,
        count: int,
        seconds: float,
        cpus: int,
        wait: bool,
        code: int = 0,
        licences: int = 0,
        restart: bool = True,
        max_restarts: int = 100,
        priority: int = 0,
        time_limit: float | None = None,
        cwd: str = "/data/a",
        program: str = "run",
        retries: int = 0,
        retry_delay: float | None = None,
        retry_on: tuple[int, ...] = (),
        queue: str = "default",
        keys: int = 0,
        after: Wish | None = None,
        dies: int | None = None,
        server_dies: int | None = None,
    ) -> None:
        """A person submits jobs."""
        self._submits += 1
        name = f"submit{self._submits}"
        spec = Spec(
            payload=Command((program, str(seconds), str(code))),
            cwd=cwd,
            volume="/data",
            shape=Shape(cpus, 100, 1, (("lic", licences),) if licences else ()),
            context=DIGEST,
            name=name,
            queue=queue,
            priority=priority,
            max_restarts=max_restarts,
            restart=restart,
            time_limit_seconds=time_limit,
            max_retries=retries,
            retry_delay_seconds=retry_delay,
            retry_on=retry_on,
            waits=waits_for(after, self.disk.rows.next_job - 1),
        )
        client = self.client(60.0)
        client.submit_and_wait(partial(submit, with_keys(spec, count, keys)), name, count, wait=wait)
        if dies is not None:
            client.process.kill_at_instruction(dies)
        if server_dies is not None:
            self.kill("server", self.dice.uniform(0.1, 5.0), instruction=server_dies)

    def do_submit_array(
        self,
        indices: tuple[Step, ...],
        seconds: float,
        max_running: int | None = None,
        code: int = 0,
        retries: int = 0,
        licences: int = 0,
        restart: bool = True,
        priority: int = 0,
        wait: bool = False,
        dies: int | None = None,
        server_dies: int | None = None,
        after: Wish | None = None,
    ) -> None:
        """A person submits an array, which may have to follow others."""
        name = self.arrays.new_name(indices)
        spec = Spec(
            payload=Command(("run", str(seconds), str(code), "{n}")),
            cwd="/data/a",
            volume="/data",
            shape=Shape(1, 100, 1, (("lic", licences),) if licences else ()),
            context=DIGEST,
            name=name,
            priority=priority,
            max_restarts=100,
            restart=restart,
            max_retries=retries,
            waits=waits_for(after, self.disk.rows.next_job - 1),
        )
        client = self.client(60.0)
        submission = partial(submit_array, spec, indices, max_running)  # type: ignore[arg-type]
        client.submit_and_wait(submission, name, self.arrays.count(name), wait=wait)
        if dies is not None:
            client.process.kill_at_instruction(dies)
        if server_dies is not None:
            self.kill("server", self.dice.uniform(0.1, 5.0), instruction=server_dies)

    def do_cancel(self, place: float, width: int, kill: bool) -> None:
        """A person cancels some jobs."""
        highest = self.disk.rows.next_job - 1
        if highest > 0:
            first = max(1, highest - int(place * min(highest, 40)))
            if kill:
                self.verbs.to_kill.update(range(first, first + width + 1))
            self.client(60.0).cancel(((first, first + width),), kill=kill)

    def do_cancel_selected(self, place: float, width: int, state: str, kill: bool) -> None:
        """A person cancels what a selector names."""
        which = selector_of(place, width, state, self.disk.rows.next_job - 1)
        if kill:
            self.verbs.to_kill.update(range(which.ranges[0][0], which.ranges[0][1] + 1))
        self.client(60.0).ask(lambda client: client.cancel(which, kill=kill))

    def do_set(self, place: float, width: int, state: str) -> None:
        """A person changes jobs that have not started."""
        which = selector_of(place, width, state, self.disk.rows.next_job - 1)
        changes = self.verbs.new_changes()
        limit, priority = changes.time_limit_seconds, changes.priority
        self.client(60.0).ask(lambda client: client.change(which, time_limit=limit, priority=priority))

    def do_rerun(self, place: float, width: int, state: str) -> None:
        """A person has finished jobs run again."""
        which = selector_of(place, width, state, self.disk.rows.next_job - 1)
        self.client(60.0).rerun(which, self.verbs.new_group())

    def do_clean(self, failed: bool) -> None:
        """A person has finished jobs dropped."""
        self.client(5.0).ask(lambda client: client.clean(failed=failed))

    def do_licences(self, amount: int) -> None:
        """The configuration has another number of licences, and is read again."""
        self.truth.licences = amount
        self.client(5.0).ask(lambda client: client.reload())

    def do_pause(self, host: str, kill: bool) -> None:
        """A person keeps a machine from taking jobs."""
        self.client(60.0).ask(lambda client: client.pause_workers(host, kill=kill, reason="hot"))

    def do_resume(self, host: str) -> None:
        """A person lets a machine take jobs again."""
        self.client(60.0).ask(lambda client: client.resume_workers(host))

    def do_pause_queue(self, queue: str) -> None:
        """A person wants nothing of a queue to start."""
        self.client(60.0).ask(lambda client: client.pause_queues(queue, reason="new library"))

    def do_resume_queue(self, queue: str) -> None:
        """A person lets jobs of a queue start again."""
        self.client(60.0).ask(lambda client: client.resume_queues(queue))

    def do_set_queue(self, queue: str, **what: int) -> None:
        """A person sets what a queue may."""
        self.client(60.0).ask(lambda client: client.set_queue(queue, **what))

    def do_remove_queue(self, queue: str) -> None:
        """A person wants a queue no more, if it is empty."""
        self.client(60.0).ask(lambda client: client.remove_queue(queue))

    def do_forget(self, host: str) -> None:
        """A person knows that a machine is off, and says so."""
        if not self.machines[host].host.up:
            self.client(5.0).ask(lambda client: client.forget_worker(host))

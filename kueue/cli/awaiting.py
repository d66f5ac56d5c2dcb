"""Waiting for jobs on the command line: `cmd --wait`, `cmd --follow`, `wait-job`."""

from __future__ import annotations

import sys
import time

from kueue.cli.outcome import OURS
from kueue.cli.terminal import Terminal, write_bytes
from kueue.client import Client
from kueue.durations import format_duration
from kueue.errors import RequestError, WaitTimeoutError
from kueue.operations import is_over
from kueue.requests import Jobs, ranges_of_jobs
from kueue.text import visible
from kueue.wire.messages import JobChange, LogChunk

INTERRUPTED = 130
_NEVER_RAN = frozenset({"no_directory", "output", "spawn", "lost", "interrupted", "max_restarts"})


def await_job(terminal: Terminal, client: Client, job: int, *, follow: bool) -> int:
    """Wait for a job that was just submitted; the exit code for `cmd`."""
    try:
        last = _follow(terminal, client, job) if follow else _wait(terminal, client, job)
    except KeyboardInterrupt:
        terminal.say(
            f"\njob {job} goes on; kueue wait-job {job} waits for it, kueue remove-job --kill {job} ends it"
        )
        return INTERRUPTED
    code = exit_code(last)
    if not follow:
        terminal.print([str(code)])
    if last.state != "succeeded":
        terminal.say(ending_line(last))
    return code


def _wait(terminal: Terminal, client: Client, job: int) -> JobChange:
    told = 0
    for change in client.watch(job):
        told = _tell_start(terminal, change, told)
        if is_over(change):
            return change
    raise AssertionError("a watch ends only with its job")


def _follow(terminal: Terminal, client: Client, job: int) -> JobChange:
    """Pass the output of each attempt through, until the job is over."""
    told = 0
    followed = 0
    changes = client.watch(job)
    for change in changes:
        told = _tell_start(terminal, change, told)
        started = change.state in ("running", "succeeded", "failed", "canceled")
        if started and change.attempt > followed:
            followed = change.attempt
            try:
                _pass_through(client, job, followed)
            except RequestError as error:
                if error.code not in ("not_started", "unknown_attempt", "unknown_job"):
                    raise
        if is_over(change):
            return change
    raise AssertionError("a watch ends only with its job")


def _pass_through(client: Client, job: int, attempt: int) -> None:
    for stream, chunk in client.follow(job, attempt=attempt):
        write_bytes(stream, chunk.data)


def _tell_start(terminal: Terminal, change: JobChange, told: int) -> int:
    """Where it runs, once an attempt."""
    if change.worker and change.attempt > told and change.state not in ("pending", "offered"):
        terminal.say(f"job {change.id} → {visible(change.worker)}")
        return change.attempt
    return told


def exit_code(job: JobChange) -> int:
    """The command's own code, 128 + n for signal n, 125 for what is ours."""
    if job.state == "succeeded":
        return 0
    if job.state == "failed" and (job.reason is None or job.reason.code not in _NEVER_RAN):
        if job.signal is not None:
            return 128 + job.signal
        if job.return_code:
            return job.return_code
    return OURS


def ending_line(job: JobChange) -> str:
    """Why a job did not succeed, in a line."""
    if job.state == "unknown":
        return f"job {job.id} is not in the server's table (it may have been cleaned)"
    text = f"job {job.id} {job.state}"
    if job.reason is not None:
        text += f" ({visible(job.reason.text)})"
    if job.run_seconds is not None:
        text += f" after {format_duration(job.run_seconds)}"
    return text + (f"; kueue logs {job.id}" if job.attempt else "")


def wait_for_jobs(terminal: Terminal, client: Client, jobs: Jobs, timeout: float | None) -> int:
    """`wait-job`: 0 if all succeeded, else 1; 124 when the time is over."""
    ranges = ranges_of_jobs(jobs)
    total = sum(last - first + 1 for first, last in ranges)
    progress = _Progress(total)
    failed = 0
    try:
        for job in client.as_completed(jobs, timeout):
            progress.step()
            if job.state != "succeeded":
                failed += 1
                change = JobChange(
                    job.id,
                    job.state,
                    attempt=job.attempt,
                    reason=job.reason,
                    run_seconds=job.run_seconds,
                )
                progress.clear()
                terminal.say(ending_line(change))
            progress.show()
    except WaitTimeoutError as error:
        progress.clear()
        terminal.say(f"kueue: {progress.done} of {total} jobs have finished; {error}")
        return WaitTimeoutError.exit_code
    except KeyboardInterrupt:
        progress.clear()
        terminal.say(f"kueue: {progress.done} of {total} jobs have finished; the others go on")
        return INTERRUPTED
    progress.clear()
    return 1 if failed else 0


class _Progress:
    """A line on a terminal that is rewritten at most some times a second."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.done = 0
        self._shown = False
        self._last = 0.0
        self._on = sys.stderr.isatty() and total > 1

    def step(self) -> None:
        """One more."""
        self.done += 1

    def show(self) -> None:
        """Draw it."""
        now = time.monotonic()
        if self._on and now - self._last > 0.1:
            self._last = now
            self._shown = True
            sys.stderr.write(f"\r{self.done} of {self._total} jobs have finished")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def tail_note(job: int, chunk: LogChunk) -> str:
    """One line that says that only the end could be had, and where the whole is."""
    where = f" on {visible(chunk.worker)}" if chunk.worker else ""
    return (
        f"kueue: the worker{where} can't be asked for the output of job {job}; this is what the server keeps"
    )

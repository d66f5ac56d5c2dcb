"""Getting everything for a start open and at hand: directory, program, outputs; then the order to the keeper.

Each step may ask a thread, or be answered at once from what was asked a moment ago; a plain job in a busy
directory costs no thread at all. A program that does not depend on the directory is looked for meanwhile. What has
been opened belongs to its key until it is taken or discarded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from kueue.errors import ProtocolError
from kueue.output_names import OutputNames
from kueue.wire.codec import from_os, to_os
from kueue.wire.messages import OsString, Reason, Spec
from kueue_worker.contexts import Contexts, JobContext
from kueue_worker.core.events import LookDone, PrepareDone
from kueue_worker.core.instructions import Prepare
from kueue_worker.directories import AbsentError, Directories, OpenDirectory
from kueue_worker.outputs import ExhaustedError, OpenOutputs, OutputError, close_outputs, open_outputs
from kueue_worker.programs import NoProgramError, find_program
from kueue_worker.remembered import Remembered
from kueue_worker.threads import DeadlineThreads

TMPDIR_SECONDS = 60.0
DISCARDED = "null"


@dataclass(slots=True)
class Prepared:
    """What a start needs; filled step by step. `program` is absolute or relative to the directory; `is_of_directory`:
    which it is depends on that."""

    key: str
    attempt: int
    spec: Spec
    cwd: str
    context: JobContext
    generation: int
    is_of_directory: bool
    directory: OpenDirectory | None = None
    program: str = ""
    found: str | BaseException | None = None
    keep_tmpdir: bool = True
    outputs: OpenOutputs = field(default_factory=OpenOutputs)
    ready: bool = False


class Preparations:
    """`looked` and `prepared` get the results, on the loop, maybe before the call returns."""

    def __init__(
        self,
        threads: DeadlineThreads,
        directories: Directories,
        contexts: Contexts,
        host: str,
        clock: Callable[[], float],
        looked: Callable[[LookDone], None],
        prepared: Callable[[PrepareDone], None],
    ) -> None:
        self._threads = threads
        self._directories = directories
        self._contexts = contexts
        self._host = host
        self._looked = looked
        self._prepared = prepared
        self._programs = Remembered[tuple[str, str, str], str](threads, clock)
        self._tmpdirs = Remembered[str, bool](threads, clock, seconds=TMPDIR_SECONDS)
        self._by_key: dict[str, Prepared] = {}
        self.generation = 0

    def look(self, key: str, cwd: OsString) -> None:
        """Is the working directory there?"""

        def found(result: OpenDirectory | BaseException) -> None:
            if isinstance(result, BaseException):
                refusal, ancestor = refusal_of(result, from_os(cwd))
                self._looked(LookDone(key, refusal, ancestor))
            else:
                self._looked(LookDone(key))

        self._directories.find(from_os(cwd), found)

    def prepare(self, order: Prepare) -> None:
        """Open and find everything."""
        spec = order.spec
        try:
            context = self._contexts.get(spec.context)
        except ProtocolError as error:
            self._prepared(PrepareDone(order.key, refusal=Reason("no_resources", str(error))))
            return
        names = OutputNames(
            order.job, spec.name, spec.group, order.attempt, self._host, spec.array_index or 0
        )
        stdout, stderr = names.fill(spec.stdout), names.fill(spec.stderr)
        if stdout is not spec.stdout or stderr is not spec.stderr:
            spec = msgspec.structs.replace(spec, stdout=stdout, stderr=stderr)
        is_of_directory = depends_on_directory(first_word(spec), context.search_path)
        cwd = from_os(spec.cwd)
        job = Prepared(order.key, order.attempt, spec, cwd, context, self.generation, is_of_directory)
        self._by_key[order.key] = job
        if not is_of_directory:
            self._ask_program(job)
        self._directories.find(job.cwd, lambda result: self._with_directory(job, result))

    def take(self, key: str) -> Prepared | None:
        """What was prepared; its descriptors are the caller's now. None if it is not there, or out of date
        because the keeper is another one since."""
        job = self._by_key.pop(key, None)
        if job is None:
            return None
        if not job.ready or job.generation != self.generation:
            close_outputs(job.outputs)
            return None
        return job

    def discard(self, key: str) -> None:
        """It will not be started."""
        job = self._by_key.pop(key, None)
        if job is not None:
            close_outputs(job.outputs)

    def forget_directories(self) -> None:
        """The keeper is another one and has none of the directories."""
        self.generation += 1
        self._directories.forget()

    # ---------------------------------------------------------------- the steps

    def _wanted(self, job: Prepared) -> bool:
        return self._by_key.get(job.key) is job

    def _with_directory(self, job: Prepared, result: OpenDirectory | BaseException) -> None:
        if not self._wanted(job):
            return
        if isinstance(result, BaseException):
            refusal, ancestor = refusal_of(result, job.cwd)
            self._refuse(job, refusal, ancestor)
            return
        job.directory = result
        if job.found is not None:
            self._with_program(job, job.found)
        elif job.is_of_directory:
            self._ask_program(job)

    def _ask_program(self, job: Prepared) -> None:
        name, path = first_word(job.spec), job.context.search_path
        self._programs.ask(
            (name, path, job.cwd if job.is_of_directory else ""),
            lambda: find_program(name, path, job.cwd),
            lambda found: self._found_program(job, found),
        )

    def _found_program(self, job: Prepared, result: str | BaseException) -> None:
        job.found = result
        if job.directory is not None:
            self._with_program(job, result)

    def _with_program(self, job: Prepared, result: str | BaseException) -> None:
        if not self._wanted(job):
            return
        if isinstance(result, NoProgramError):
            where = job.spec.cwd if job.is_of_directory else None
            self._refuse(job, Reason("no_program", str(result)), where)
        elif isinstance(result, BaseException):
            self._refuse(job, Reason("file_timeout", f"looking for the program: {result}"), None)
        else:
            job.program = result
            if job.context.tmpdir is None:
                self._with_tmpdir(job, True)
            else:
                tmpdir = job.context.tmpdir
                self._tmpdirs.ask(
                    tmpdir, lambda: os.path.isdir(tmpdir), lambda there: self._with_tmpdir(job, there is True)
                )

    def _with_tmpdir(self, job: Prepared, there: bool) -> None:
        if not self._wanted(job):
            return
        job.keep_tmpdir = there
        stdout, stderr = file_of(job.spec.stdout), file_of(job.spec.stderr)
        if stdout is None and stderr is None:
            self._done(job)
            return
        cwd, truncate, umask = job.cwd, job.attempt <= 1, job.context.context.umask
        self._threads.run(
            lambda: open_outputs(cwd, stdout, stderr, truncate=truncate, umask=umask),
            lambda opened: self._with_outputs(job, opened),
            dispose=close_outputs,
            place=("outputs", directory_of(cwd, stdout), directory_of(cwd, stderr)),
        )

    def _with_outputs(self, job: Prepared, result: OpenOutputs | BaseException) -> None:
        if not self._wanted(job):
            if isinstance(result, OpenOutputs):
                close_outputs(result)
        elif isinstance(result, OpenOutputs):
            job.outputs = result
            self._done(job)
        elif isinstance(result, TimeoutError):
            self._refuse(job, Reason("file_timeout", "opening the output: no answer in time"), None)
        elif isinstance(result, ExhaustedError):
            self._refuse(job, Reason("no_resources", str(result)), None)
        elif isinstance(result, OutputError):
            self._fail(job, Reason("output", str(result)))
        else:
            self._fail(job, Reason("output", f"cannot open the output: {result}"))

    def _done(self, job: Prepared) -> None:
        job.ready = True
        self._prepared(
            PrepareDone(
                job.key,
                stdout=place_of(job.cwd, job.spec.stdout),
                stderr=place_of(job.cwd, job.spec.stderr),
            )
        )

    def _refuse(self, job: Prepared, refusal: Reason, ancestor: OsString | None) -> None:
        del self._by_key[job.key]
        self._prepared(PrepareDone(job.key, refusal=refusal, ancestor=ancestor))

    def _fail(self, job: Prepared, failure: Reason) -> None:
        del self._by_key[job.key]
        places = (place_of(job.cwd, job.spec.stdout), place_of(job.cwd, job.spec.stderr))
        self._prepared(PrepareDone(job.key, failure=failure, stdout=places[0], stderr=places[1]))


def refusal_of(error: BaseException, cwd: str) -> tuple[Reason, OsString | None]:
    """Why a job can't run here, and the deepest directory above its own that exists."""
    if isinstance(error, AbsentError):
        return Reason("no_directory", str(error)), to_os(error.ancestor)
    if isinstance(error, TimeoutError):
        return Reason("directory_timeout", f"{cwd} does not answer"), None
    if isinstance(error, ExhaustedError):
        return Reason("no_resources", str(error)), None
    return Reason("no_directory", f"{cwd}: {error}"), None


def first_word(spec: Spec) -> str:
    """What names the program; empty if nothing does."""
    return from_os(spec.payload.argv[0]) if spec.payload.argv else ""


def depends_on_directory(name: str, search_path: str) -> bool:
    """Does which program this is depend on the job's directory?"""
    if "/" in name:
        return not name.startswith("/")
    return any(not component.startswith("/") for component in search_path.split(":"))


def file_of(output: OsString | None) -> str | None:
    """The path of a stream that goes to a file of the job's own."""
    return None if output is None or output == DISCARDED else from_os(output)


def directory_of(cwd: str, output: str | None) -> str | None:
    """The directory of an output file."""
    return None if output is None else os.path.dirname(os.path.join(cwd, output))


def place_of(cwd: str, output: OsString | None) -> OsString | None:
    """Where a stream goes, as reports and notes say it."""
    if output is None or output == DISCARDED:
        return output
    return to_os(os.path.join(cwd, from_os(output)))

"""Every message of the protocol, as frozen structs in tagged unions per direction and role.

Decoding is validation: what does not fit is a fault of the peer. This module holds shapes only; bytes
are the codec's and the framing's business. `docs/protocol.md` describes the same for other languages.

Conventions: `rid` pairs a request with its reply on one connection; times are seconds since the epoch
by the server's clock, `…_ago` are ages in seconds by the sender's own clock (so that clocks need not
agree); OS strings (arguments, paths) that are not UTF-8 travel as `RawBytes`. Ranges of ids are
inclusive pairs `(first, last)`.

The frozen subset, which every version speaks: `Register`, `Welcome`, `Inventory`, `Report` with `finished`,
`Acknowledge`, `Stop`, `Heartbeat`, `Refuse`, `Leaving`. Their fields may only be added to, with defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from kueue.job import End
from kueue.resources import Capacity, Shape
from kueue.wire.changes import Changes as Changes
from kueue.wire.selector import Selector as Selector
from kueue.wire.waits import Waits as Waits
from kueue.wire.words import DEFAULT_QUEUE as DEFAULT_QUEUE
from kueue.wire.words import OsString as OsString
from kueue.wire.words import Range as Range
from kueue.wire.words import RawBytes as RawBytes
from kueue.wire.words import Step as Step

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one frame after authentication."""
MAX_ITEMS = 1000
"""Items of one list in a message; longer lists are cut into several messages."""
BATCH_BYTES = 1024 * 1024
"""Bytes at which a sender cuts a list message, whichever of the two comes first."""
LOG_CHUNK_BYTES = 256 * 1024
"""Most bytes of output in one `LogChunk`."""
TAIL_BYTES = 4096
"""Bytes of the end of each output stream that travel with a finish report."""


Stream = Literal["stdout", "stderr"]

# What a worker says goes into the journal, sums and dates: a number that these can't hold is its fault.
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A job's id, a fence, an attempt's number."""
Status32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""An exit code or a signal's number."""
Age = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""Seconds; three decades at most."""
Figure = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
"""Any other measurement."""
Word = Annotated[str, msgspec.Meta(max_length=1000)]
"""What a worker says of itself and its machine: everybody who asks for the workers gets all of them."""


# ---------------------------------------------------------------- what a job is


class Command(msgspec.Struct, frozen=True, tag_field="kind", tag="command", gc=False):
    """The payload of a job that runs a program. Later payloads join the union `Payload`."""

    argv: tuple[OsString, ...]


Payload = Command


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job inherits from where it was submitted; a blob of its own, one per distinct content.

    `env` are pairs of name and value; `umask` an int or None for the worker's; `limits` are soft
    resource limits by their lower-case name without RLIMIT_ (`nofile`, `core`, …), -1 is unlimited.
    """

    env: tuple[tuple[OsString, OsString], ...] = ()
    umask: int | None = None
    limits: dict[str, int] = {}


class Spec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A job as it was asked for; never changes. The server keeps it as encoded bytes.

    `volume` is the mount point of `cwd` as the client saw it; for `/` the first component of `cwd`.
    `stdout`/`stderr` are paths relative to `cwd`, `"null"` to discard, None for the worker's spool.
    `restart=False` means at most once. `context` is the SHA-256 (hex) of the encoded `Context`. An attempt that
    failed by its own exit code (one of `retry_on`, if there are some) is followed by another after
    `retry_delay_seconds`, `max_retries` times at most. `rerun_of`: the job that it is a new run of. A job whose
    `key` one of its queue has already, in whatever state, is not made. `waits`: for what it waits before it is
    pending. Of a task of an array (`submit_array`) `array` is the id of its first task, `array_index` its own index; of
    all jobs with the same `array` at most `max_running` run at a time.
    """

    payload: Payload
    cwd: OsString
    volume: OsString
    shape: Shape
    context: str
    stdout: OsString | None = None
    stderr: OsString | None = None
    name: str = ""
    group: str = ""
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    max_restarts: int = 5
    restart: bool = True
    time_limit_seconds: float | None = None
    submit_host: str = ""
    max_retries: int = 0
    retry_delay_seconds: float | None = None
    retry_on: tuple[int, ...] = ()
    rerun_of: int | None = None
    array: int | None = None
    array_index: int | None = None
    max_running: int | None = None
    key: str = ""
    waits: Waits | None = None


class Reason(msgspec.Struct, frozen=True, gc=False):
    """Why something is as it is: a documented code, and a line for people."""

    code: str
    text: str


class AttemptRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Names one handing-over of a job: JSON `[job, fence]`."""

    job: Number
    fence: Number


# ---------------------------------------------------------------- worker -> server


class SystemInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker's machine is; sent once a session."""

    os: Word = ""  # e.g. "Debian GNU/Linux 12"
    kernel: Word = ""
    machine: Word = ""  # e.g. "x86_64"
    cpu_model: Word = ""
    cpu_mhz: Figure = 0.0
    cpus: Number = 0  # logical CPUs of the machine
    ram_mb: Number = 0
    boot_time_ago: Age = 0.0  # seconds since the machine booted
    python: Word = ""


class Register(msgspec.Struct, frozen=True, tag="register", omit_defaults=True):
    """First message of a worker. `name` is unique in the cluster; `keeper` and `boot` are random ids
    of the keeper process and of the machine's boot: they tell whether earlier attempts can live."""

    name: Word
    host: Word
    version: Word
    keeper: Word
    boot: Word
    capacity: Capacity
    system: SystemInfo
    pid: Number = 0


class RunningAttempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    job: Number
    fence: Number
    attempt: Number
    started_ago: Age


class FinishedAttempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The end of an attempt, self-contained: a server that knows only the submit can take it.

    `exit_code` or `signal` for `exited`, `time_limit`, `output_limit`, `stopped`; `reason` says more
    where `end` is not plain (`not_started`: code `no_program`, `no_directory`, `output`, `spawn`).
    `cpu_seconds` user + system of the process tree it waited for; `peak_ram_mb` of its largest process.
    """

    job: Number
    fence: Number
    attempt: Number
    end: End
    exit_code: Status32 | None = None
    signal: Status32 | None = None
    reason: Reason | None = None
    started_ago: Age | None = None
    ended_ago: Age = 0.0
    run_seconds: Age = 0.0
    cpu_seconds: Figure = 0.0
    peak_ram_mb: Figure = 0.0
    stdout_path: OsString | None = None
    stderr_path: OsString | None = None
    stdout_tail: bytes = b""
    stderr_tail: bytes = b""


class RefusedAttempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The worker will not run this one; another may. `code`: `no_directory` (then `ancestor` is the
    deepest directory of the job's cwd that exists here), `directory_timeout`, `file_timeout`,
    `no_resources`, `draining`, `spool_full`, `keeper_silent`."""

    job: Number
    fence: Number
    code: str
    text: str = ""
    ancestor: OsString | None = None


class Inventory(msgspec.Struct, frozen=True, tag="inventory", omit_defaults=True):
    """All that a worker has of the journal it is talking to. Several messages while `more` is set."""

    journal: str
    held: tuple[AttemptRef, ...] = ()  # accepted, not started
    running: tuple[RunningAttempt, ...] = ()
    finished: tuple[FinishedAttempt, ...] = ()
    more: bool = False
    highest_job: Number = 0  # highest id this worker remembers from this journal


class Status(msgspec.Struct, frozen=True, tag="status", omit_defaults=True):
    """What the worker can give to jobs of ours now; also its standing request for work.

    `usable_cpus`/`usable_ram_mb`: capacity less what others use (see `kueue_worker/core/free.py`); the
    server subtracts what it has reserved there. `accepting` False: offers would be refused, `note`
    says why. `keeper_silent_seconds` > 0: the keeper does not answer.
    """

    usable_cpus: Figure
    usable_ram_mb: Figure
    accepting: bool = True
    note: Word = ""
    load: tuple[Figure, Figure, Figure] = (0.0, 0.0, 0.0)
    busy: Figure = 0.0  # share of the machine's CPUs in use by anyone, 0…1
    ram_used_mb: Figure = 0.0
    uptime_seconds: Age = 0.0
    keeper_silent_seconds: Age = 0.0


class Report(msgspec.Struct, frozen=True, tag="report", omit_defaults=True):
    """What happened to attempts, in this order: started, then finished, refused, released, kept.

    `released`: given back unstarted (answer to `Retract`, or on leaving). `kept`: answer to `Retract`
    for what has started (or ended) already.
    """

    started: tuple[RunningAttempt, ...] = ()
    finished: tuple[FinishedAttempt, ...] = ()
    refused: tuple[RefusedAttempt, ...] = ()
    released: tuple[AttemptRef, ...] = ()
    kept: tuple[AttemptRef, ...] = ()


class LogData(msgspec.Struct, frozen=True, tag="log_data", omit_defaults=True):
    """Answer to `FetchLog`. `error` is set when there is nothing to be had; `at_end`: this reaches the
    end of the output and the attempt has finished, no more will come."""

    rid: int
    offset: Number = 0
    data: bytes = b""
    size: Number = 0
    at_end: bool = False
    error: Reason | None = None


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """Sent by both sides when they have said nothing else for a heartbeat interval."""


class Leaving(msgspec.Struct, frozen=True, tag="leaving", omit_defaults=True):
    """The worker closes on purpose. `jobs_stay`: only the agent leaves (upgrade); keeper and jobs live on."""

    jobs_stay: bool = False
    text: str = ""


WorkerMessage = Register | Inventory | Status | Report | LogData | Heartbeat | Leaving


# ---------------------------------------------------------------- server -> worker


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The journal that the server keeps, the worker's id in it, and the timing both sides keep to."""

    journal: str
    worker_id: int
    heartbeat_seconds: float
    worker_timeout_seconds: float
    version: str


class OfferedJob(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One attempt handed to a worker. `spec` is an encoded `Spec`, as the client sent it."""

    job: int
    fence: int
    attempt: int
    spec: msgspec.Raw


class Offer(msgspec.Struct, frozen=True, tag="offer", omit_defaults=True):
    """Jobs to run, in this order, each as soon as it fits. `contexts`: encoded `Context` blobs that
    this session has not been sent before; the worker computes their SHA-256 itself."""

    jobs: tuple[OfferedJob, ...]
    contexts: tuple[bytes, ...] = ()


class Acknowledge(msgspec.Struct, frozen=True, tag="acknowledge"):
    """These finished attempts are safe in the journal: the worker may drop its records of them."""

    attempts: tuple[AttemptRef, ...]


class Stop(msgspec.Struct, frozen=True, tag="stop", omit_defaults=True):
    """End these attempts, whatever their state; answered by their `finished` (or `released`) report.
    One unknown to the worker is answered by `released`. `why`: `canceled` or `superseded`."""

    attempts: tuple[AttemptRef, ...]
    why: Literal["canceled", "superseded"] = "canceled"


class Retract(msgspec.Struct, frozen=True, tag="retract"):
    """Give these back if not started; each is answered in `released` or `kept`."""

    attempts: tuple[AttemptRef, ...]


class FetchLog(msgspec.Struct, frozen=True, tag="fetch_log", omit_defaults=True):
    """Send output of an attempt from `offset` on (negative: so many bytes before the end), at most
    `limit` bytes. `wait_seconds` > 0: if there is none yet, hold the answer so long for more to come.
    `path` is where the output went if not into the spool."""

    rid: int
    job: int
    attempt: int
    fence: int
    stream: Stream
    offset: int = 0
    limit: int = LOG_CHUNK_BYTES
    wait_seconds: float = 0.0
    path: OsString | None = None


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """These jobs left the table: drop what the spool has of them."""

    ranges: tuple[Range, ...]


class Leave(msgspec.Struct, frozen=True, tag="leave", omit_defaults=True):
    """The worker is to end (`kueue shutdown --workers`, `kueue down`). `kill`: running jobs are
    interrupted; otherwise it takes no more and ends when its jobs have finished."""

    kill: bool = False


class Refuse(msgspec.Struct, frozen=True, tag="refuse"):
    """The server ends this session, with the reason, e.g. the name is in use by a living worker."""

    reason: Reason


ToWorker = Welcome | Offer | Acknowledge | Stop | Retract | FetchLog | Forget | Leave | Refuse | Heartbeat


# ---------------------------------------------------------------- client -> server


class Submit(msgspec.Struct, frozen=True, tag="submit", omit_defaults=True):
    """A block of jobs with contiguous ids, all or none. The same `token` again returns the same block.
    `contexts` are the encoded `Context` blobs that the jobs refer to and this connection has not sent."""

    rid: int
    token: str
    jobs: tuple[Spec, ...]
    contexts: tuple[bytes, ...] = ()


class SubmitArray(msgspec.Struct, frozen=True, tag="submit_array", omit_defaults=True):
    """An array: a task for each index, with contiguous ids in the order of the indices, all or none. `indices` are
    first, last and step each. In the command, and in `cwd`, `stdout`, `stderr` and `name` of `spec`, `{n}` stands for
    the index. `max_running` may be set in it; `array` and `array_index` are set by the server. Else as `Submit`."""

    rid: int
    token: str
    spec: Spec
    indices: tuple[Step, ...]
    contexts: tuple[bytes, ...] = ()


class ListJobs(msgspec.Struct, frozen=True, tag="list_jobs", omit_defaults=True):
    """A page of jobs ordered by id. `newest_first` walks down from the newest. `cursor`: the last id of
    the page before (exclusive). `counts`: also count the table by state. `attempts`: rows carry them all. `arrays`:
    tasks of an array that have not started may be one row, with `last`. `glance`: instead, the `limit` rows that tell
    most of the whole table, and what is left out."""

    rid: int
    filter: Selector = Selector()
    newest_first: bool = False
    cursor: int | None = None
    limit: int = MAX_ITEMS
    counts: bool = False
    attempts: bool = False
    arrays: bool = False
    glance: bool = False


class SelectJobs(msgspec.Struct, frozen=True, tag="select_jobs", omit_defaults=True):
    """Which jobs does a selector name now, and how many in which state? In pages, as `ListJobs`."""

    rid: int
    selector: Selector
    cursor: int | None = None


class ShowJob(msgspec.Struct, frozen=True, tag="show_job", omit_defaults=True):
    rid: int
    job: int
    context: bool = False


class ReadLog(msgspec.Struct, frozen=True, tag="read_log", omit_defaults=True):
    """Output of a job's attempt (None: the current or last one); offsets and waiting as in `FetchLog`."""

    rid: int
    job: int
    stream: Stream
    attempt: int | None = None
    offset: int = 0
    limit: int = LOG_CHUNK_BYTES
    wait_seconds: float = 0.0


class Watch(msgspec.Struct, frozen=True, tag="watch", omit_defaults=True):
    """Subscribe to changes of jobs. The answer is a `WatchState` of all of them (or, with `since`, of
    those changed after that sequence number), then one more per change until `Unwatch`."""

    rid: int
    ranges: tuple[Range, ...]
    since: int | None = None


class WatchCluster(msgspec.Struct, frozen=True, tag="watch_cluster", omit_defaults=True):
    """Subscribe to the whole in figures, with `details` to workers, resources and queues, too. The answer is a
    `ClusterState`, then one more per second in which something changed, until `Unwatch`."""

    rid: int
    details: bool = False


class Unwatch(msgspec.Struct, frozen=True, tag="unwatch"):
    rid: int  # of the Watch or WatchCluster


class Cancel(msgspec.Struct, frozen=True, tag="cancel", omit_defaults=True):
    """Cancel jobs; running ones only with `kill`. Answered when the decision is durable. `ranges` are ids of which
    all are told about; else `selector` says which jobs."""

    rid: int
    ranges: tuple[Range, ...] = ()
    kill: bool = False
    selector: Selector | None = None


class Clean(msgspec.Struct, frozen=True, tag="clean", omit_defaults=True):
    """Drop succeeded and canceled jobs from the table, failed ones too with `failed`; with `selector` only those
    that it names, and if it names states, those of them that are an end."""

    rid: int
    failed: bool = False
    selector: Selector | None = None


class Rerun(msgspec.Struct, frozen=True, tag="rerun", omit_defaults=True):
    """New jobs like these, which must have finished, but for `changes`: one block of ids in the order of the old
    ones, all or none. `token` as in `Submit`."""

    rid: int
    token: str
    selector: Selector
    changes: Changes = Changes()


class Change(msgspec.Struct, frozen=True, tag="change", omit_defaults=True):
    """Change jobs that have not started."""

    rid: int
    selector: Selector
    changes: Changes


class ListWorkers(msgspec.Struct, frozen=True, tag="list_workers"):
    rid: int


class Explain(msgspec.Struct, frozen=True, tag="explain"):
    """Why does this job wait?"""

    rid: int
    job: int


class ShowWorker(msgspec.Struct, frozen=True, tag="show_worker"):
    """`worker` is an id (digits), a worker's name, or its host's name where that is unique."""

    rid: int
    worker: str


class ListResources(msgspec.Struct, frozen=True, tag="list_resources"):
    rid: int


class ForgetWorker(msgspec.Struct, frozen=True, tag="forget_worker"):
    """A person confirms that a lost worker's attempts are dead."""

    rid: int
    worker: str


class PauseWorkers(msgspec.Struct, frozen=True, tag="pause_workers", omit_defaults=True):
    """Workers take no more jobs until `resume_workers`, whatever restarts. `workers` are ids, or globs over names and
    hosts, each of which must name one; with `kill` what they have goes back to the queue."""

    rid: int
    workers: tuple[str, ...]
    kill: bool = False
    reason: str = ""


class ResumeWorkers(msgspec.Struct, frozen=True, tag="resume_workers"):
    rid: int
    workers: tuple[str, ...]


class ListQueues(msgspec.Struct, frozen=True, tag="list_queues"):
    rid: int


class PauseQueues(msgspec.Struct, frozen=True, tag="pause_queues", omit_defaults=True):
    """Nothing of these queues starts any more, whatever restarts, until `resume_queues`; one that is not there is made.
    Answered when nothing that was handed to workers can start any more, and no later than after 30 s."""

    rid: int
    queues: tuple[str, ...]
    reason: str = ""


class ResumeQueues(msgspec.Struct, frozen=True, tag="resume_queues"):
    rid: int
    queues: tuple[str, ...]


class SetQueue(msgspec.Struct, frozen=True, tag="set_queue", omit_defaults=True):
    """What is null stays as it is: the `weight` (1 to 1,000, usually 1), and how many of its jobs may run at the same
    time (0: no limit). A queue that is not there is made."""

    rid: int
    queue: str
    weight: int | None = None
    max_running: int | None = None


class RemoveQueue(msgspec.Struct, frozen=True, tag="remove_queue", omit_defaults=True):
    """Drop a queue with its finished jobs; unfinished ones are canceled with `cancel`, and else a refusal."""

    rid: int
    queue: str
    cancel: bool = False


class DumpJobs(msgspec.Struct, frozen=True, tag="dump_jobs", omit_defaults=True):
    """The jobs of a queue that have not been handed out, as they were asked for; in pages by id, as `ListJobs`."""

    rid: int
    queue: str
    cursor: int | None = None


class Backup(msgspec.Struct, frozen=True, tag="backup"):
    """A consistent copy of the journal at `path` on the server's machine."""

    rid: int
    path: OsString


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    rid: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown", omit_defaults=True):
    """End the server; with `workers` these too, with `kill` interrupting what runs."""

    rid: int
    workers: bool = False
    kill: bool = False


class ServerInfo(msgspec.Struct, frozen=True, tag="server_info"):
    rid: int


ClientMessage = (
    Submit
    | SubmitArray
    | ListJobs
    | SelectJobs
    | ShowJob
    | ReadLog
    | Watch
    | WatchCluster
    | Unwatch
    | Cancel
    | Clean
    | Rerun
    | Change
    | ListWorkers
    | Explain
    | ShowWorker
    | ListResources
    | ForgetWorker
    | PauseWorkers
    | ResumeWorkers
    | ListQueues
    | PauseQueues
    | ResumeQueues
    | SetQueue
    | RemoveQueue
    | DumpJobs
    | Backup
    | Reload
    | Shutdown
    | ServerInfo
    | Heartbeat
)


# ---------------------------------------------------------------- server -> client


class Submitted(msgspec.Struct, frozen=True, tag="submitted", omit_defaults=True):
    """The block is durable: ids `first … first + count - 1`. `warnings`: e.g. no connected worker fits.
    `duplicates` of the block were not made, since their keys are in their queues already: `count` may be 0."""

    rid: int
    first: int
    count: int
    warnings: tuple[Reason, ...] = ()
    duplicates: int = 0


class AttemptView(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    attempt: int
    worker: str
    end: str = ""  # an `End`, "refused", "released", or "" while current
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None


class JobView(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A row of a listing. `reason`: why it waits, failed or was canceled. `awaited`: how many jobs it still waits
    for. With `last` it stands for the tasks of an array from `id` to `last`, none of which has started, and `indices`
    are theirs (as `1-1000:2,2000`); command, names and paths have their marks then."""

    id: int
    state: str
    command: tuple[OsString, ...]
    cwd: OsString
    cpus: int
    ram_mb: int
    job_slots: int = 1
    resources: tuple[tuple[str, int], ...] = ()
    name: str = ""
    group: str = ""
    queue: str = "default"
    priority: int = 0
    worker: str | None = None
    attempt: int = 0
    attempts: tuple[AttemptView, ...] = ()
    restarts: int = 0
    return_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    submitted_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    run_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_ram_mb: float | None = None
    stdout_path: OsString | None = None
    stderr_path: OsString | None = None
    submit_host: str = ""
    retries: int = 0
    retry_at: float | None = None
    rerun_of: int | None = None
    array: int | None = None
    array_index: int | None = None
    last: int | None = None
    indices: str = ""
    awaited: int = 0


class JobCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of the whole table, by state; `average_run_seconds` of the last finished ones; `eta_seconds` for
    what remains at the recent rate, None when there is no rate yet."""

    waiting: int = 0
    pending: int = 0
    offered: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    average_run_seconds: float | None = None
    eta_seconds: float | None = None


class LeftOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many jobs of each kind are not among the rows: running (or handed over), failed within a day, pending (or
    waiting for their next try), succeeded or canceled, failed before."""

    running: int = 0
    failed: int = 0
    pending: int = 0
    finished: int = 0
    failed_before: int = 0


class WaitGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """So many pending jobs wait for this reason; `jobs` have what they wait for, at most 10. `about`: not all of them
    were looked at one by one."""

    count: int
    reason: Reason
    jobs: tuple[int, ...] = ()
    about: bool = False


class JobPage(msgspec.Struct, frozen=True, tag="job_page", omit_defaults=True):
    """`cursor` is None when the listing is complete. `left_out` and `waits` are of a `glance`."""

    rid: int
    jobs: tuple[JobView, ...]
    cursor: int | None = None
    counts: JobCounts | None = None
    left_out: LeftOut | None = None
    waits: tuple[WaitGroup, ...] = ()


class JobsSelected(msgspec.Struct, frozen=True, tag="jobs_selected", omit_defaults=True):
    """A page of what a selector names: `ranges` of ids in order, `counts` of these by state. `cursor` is None when
    that was all; `newest`: the highest id in the table."""

    rid: int
    ranges: tuple[Range, ...] = ()
    counts: JobCounts = JobCounts()
    cursor: int | None = None
    newest: int = 0


class JobDetail(msgspec.Struct, frozen=True, tag="job_detail", omit_defaults=True):
    """All about one job. The tails are the last `TAIL_BYTES` of each stream of the last finished attempt.
    `waits`: what it waits for, or waited for; `awaited_ranges`: of these, the jobs that are unfinished."""

    rid: int
    job: JobView
    max_restarts: int = 5
    restart: bool = True
    time_limit_seconds: float | None = None
    workers: tuple[str, ...] = ()
    not_workers: tuple[str, ...] = ()
    stdout_tail: bytes | None = None
    stderr_tail: bytes | None = None
    context: bytes | None = None
    max_retries: int = 0
    retry_delay_seconds: float = 0.0
    retry_on: tuple[int, ...] = ()
    waits: Waits | None = None  # at most MAX_ITEMS ranges in each list
    awaited_ranges: tuple[Range, ...] = ()


class WorkerLacks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one worker lacks for a job now; nothing: the job waits for something else."""

    worker: str
    lacks: tuple[Reason, ...] = ()


class Explanation(msgspec.Struct, frozen=True, tag="explanation", omit_defaults=True):
    """`job.reason` says why in short; `workers` are only those of a pending job, those that lack least
    first; `awaited_ranges`: the jobs that it waits for."""

    rid: int
    job: JobView
    workers: tuple[WorkerLacks, ...] = ()  # at most MAX_ITEMS
    awaited_ranges: tuple[Range, ...] = ()


class LogChunk(msgspec.Struct, frozen=True, tag="log_chunk", omit_defaults=True):
    """Output bytes from `offset`. `at_end`: the attempt is over and this was the last of it. `tail`: the
    worker can't be asked; these are the bytes that the server keeps, and `path`, where the whole is."""

    rid: int
    attempt: int
    offset: int = 0
    data: bytes = b""
    size: int = 0
    at_end: bool = False
    tail: bool = False
    worker: str | None = None
    path: OsString | None = None


class JobChange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The part of a job that waiting people look at. `state` is `unknown` for ids not in the table."""

    id: int
    state: str
    worker: str | None = None
    attempt: int = 0
    return_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    run_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_ram_mb: float | None = None


class WatchState(msgspec.Struct, frozen=True, tag="watch_state", omit_defaults=True):
    """Jobs as of sequence number `seq`; `more` while a snapshot goes on in further messages;
    `resync`: the watcher was too slow, changes were dropped, a fresh snapshot follows. The first of a watch names
    the `journal`: ids of another one are other jobs."""

    rid: int
    seq: int
    jobs: tuple[JobChange, ...] = ()
    more: bool = False
    resync: bool = False
    journal: str = ""


class Canceled(msgspec.Struct, frozen=True, tag="canceled", omit_defaults=True):
    """How many were canceled; ids that were finished already, need `kill`, or are unknown."""

    rid: int
    canceled: int
    finished: tuple[Range, ...] = ()
    running: tuple[Range, ...] = ()
    unknown: tuple[Range, ...] = ()


class Cleaned(msgspec.Struct, frozen=True, tag="cleaned", omit_defaults=True):
    """So many jobs left the table; `kept`: of the selected ones so many stay, being unfinished or of a state that
    was not asked for, or because an attempt of them may live."""

    rid: int
    dropped: int
    kept: int = 0


class Reran(msgspec.Struct, frozen=True, tag="reran", omit_defaults=True):
    """The new jobs are durable: ids `first … first + count - 1` (`count` may be 0). `unfinished` and `refused`
    (`reason`: why the first of these) count the others of the selected. A repeated token gets the ids only."""

    rid: int
    first: int
    count: int
    unfinished: int = 0
    refused: int = 0
    reason: Reason | None = None
    warnings: tuple[Reason, ...] = ()


class Changed(msgspec.Struct, frozen=True, tag="changed", omit_defaults=True):
    """So many were changed, durably. The others of the selected had `started` or been handed over (or an attempt of
    them may live), had `finished`, or were `refused` (`reason`: why the first of them)."""

    rid: int
    changed: int
    started: int = 0
    finished: int = 0
    refused: int = 0
    reason: Reason | None = None


class Pause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person, or the server where everything fails, keeps a worker from taking jobs, or a person jobs of a queue from
    starting: since when, and why."""

    since: float
    reason: str = ""


class WorkerView(msgspec.Struct, frozen=True, omit_defaults=True):
    """`state`: `connected`, `silent` (not heard of, lease holds), `lost`, `leaving`. `hour_…`: attempts that ended by
    themselves within the last hour, as far as this run of the server has seen them."""

    id: int
    name: str
    host: str
    version: str
    state: str
    capacity: Capacity
    cpus_free: float = 0.0
    ram_free_mb: float = 0.0
    slots_free: int = 0
    resources_free: tuple[tuple[str, int], ...] = ()
    jobs: int = 0  # running
    held: int = 0  # offered, not started
    unconfirmed: int = 0
    connected_at: float | None = None
    last_seen_at: float | None = None
    system: SystemInfo = SystemInfo()
    status: Status | None = None
    paused: Pause | None = None
    hour_succeeded: int = 0
    hour_failed: int = 0


class WorkerPage(msgspec.Struct, frozen=True, tag="worker_page"):
    rid: int
    workers: tuple[WorkerView, ...]


class WorkerDetail(msgspec.Struct, frozen=True, tag="worker_detail", omit_defaults=True):
    rid: int
    worker: WorkerView
    running: tuple[int, ...] = ()  # at most MAX_ITEMS ids of each
    held: tuple[int, ...] = ()
    unconfirmed: tuple[int, ...] = ()
    address: str = ""
    closed: tuple[OsString, ...] = ()  # directories it is known not to see


class Steered(msgspec.Struct, frozen=True, tag="steered", omit_defaults=True):
    """These workers are paused now, or take jobs again; `lines` are for people."""

    rid: int
    workers: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


class QueueView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named queue. `counts` are its jobs in the table; `unconfirmed` attempts count for `max_running`, too.
    `per_minute`: attempts that ended by themselves in the last five minutes; `counts.eta_seconds` goes by that."""

    name: str
    counts: JobCounts = JobCounts()
    weight: int = 1
    max_running: int | None = None
    paused: Pause | None = None
    unconfirmed: int = 0
    per_minute: float | None = None


class QueuePage(msgspec.Struct, frozen=True, tag="queue_page"):
    """All queues that have jobs in the table, or of which something is set; by name."""

    rid: int
    queues: tuple[QueueView, ...]


class DumpedJob(msgspec.Struct, frozen=True, gc=False):
    """A job with its encoded `Spec`."""

    id: int
    spec: msgspec.Raw


class JobsDumped(msgspec.Struct, frozen=True, tag="jobs_dumped", omit_defaults=True):
    """`cursor` is None when that was all. `left_out`: so many jobs wait for others, whose ids mean nothing
    elsewhere."""

    rid: int
    jobs: tuple[DumpedJob, ...] = ()
    cursor: int | None = None
    left_out: int = 0


class ResourceView(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    used: int
    total: int
    jobs: tuple[int, ...] = ()  # at most MAX_ITEMS


class ResourcePage(msgspec.Struct, frozen=True, tag="resource_page", omit_defaults=True):
    rid: int
    resources: tuple[ResourceView, ...]
    parallel_jobs: int = 0
    max_parallel_jobs: int | None = None


class ClusterState(msgspec.Struct, frozen=True, tag="cluster_state", omit_defaults=True):
    """The whole in figures. `oldest` and `newest` are the ends of the table (0: it is empty); `ended` counts the
    attempts that ended by themselves since the server started; `cpus` are those of the connected workers.
    With details, the first one has all `workers`, each later one those that changed, `gone` are ids of forgotten ones;
    `resources` and `queues` (without rates) are all of them, where one changed. `more` while one state goes on in
    further messages."""

    rid: int
    counts: JobCounts = JobCounts()
    oldest: int = 0
    newest: int = 0
    ended: int = 0
    cpus: int = 0
    cpus_used: float = 0.0
    workers: tuple[WorkerView, ...] = ()
    gone: tuple[int, ...] = ()
    resources: tuple[ResourceView, ...] | None = None
    parallel_jobs: int = 0
    max_parallel_jobs: int | None = None
    more: bool = False
    queues: tuple[QueueView, ...] | None = None


class Done(msgspec.Struct, frozen=True, tag="done", omit_defaults=True):
    """A request without a result of its own succeeded; `lines` are for people."""

    rid: int
    lines: tuple[str, ...] = ()


class ServerState(msgspec.Struct, frozen=True, tag="server_state", omit_defaults=True):
    rid: int
    version: str
    journal: str
    host: str
    pid: int
    started_at: float
    state_dir: OsString = ""
    counts: JobCounts = JobCounts()
    workers: int = 0
    journal_error: str = ""


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The request `rid` is answered with no; codes are listed in `docs/protocol.md`."""

    rid: int
    reason: Reason


ToClient = (
    Submitted
    | JobPage
    | JobsSelected
    | JobDetail
    | Explanation
    | LogChunk
    | WatchState
    | ClusterState
    | Canceled
    | Cleaned
    | Reran
    | Changed
    | WorkerPage
    | WorkerDetail
    | ResourcePage
    | Steered
    | QueuePage
    | JobsDumped
    | Done
    | ServerState
    | Failure
    | Heartbeat
)

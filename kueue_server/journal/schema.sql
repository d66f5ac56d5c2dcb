-- The journal, version 4. One server has it open, exclusively; nothing else ever writes it.
-- What changes often is apart from what never changes, so that a job's end rewrites a small row.

-- uuid (names the epoch), next_job (above every id that was ever given).
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Environment, umask and limits of jobs; one row for each distinct content. `refs` counts jobs.
CREATE TABLE context (
    digest  TEXT PRIMARY KEY,
    content BLOB NOT NULL,
    refs    INTEGER NOT NULL
) WITHOUT ROWID;

-- What was asked for: `spec` is the encoded Spec. Rows change only when a person changes a job that has not started.
CREATE TABLE job (
    id           INTEGER PRIMARY KEY,
    submitted_at REAL NOT NULL,
    context      TEXT NOT NULL,
    spec         BLOB NOT NULL
);

-- What became of it: `progress` is an encoded Progress. No row: pending, never handed out.
CREATE TABLE progress (
    job      INTEGER PRIMARY KEY,
    state    TEXT NOT NULL,
    progress BLOB NOT NULL
);

-- The ends of the output of attempts; the oldest rows are dropped when there are too many bytes.
CREATE TABLE tail (
    number  INTEGER PRIMARY KEY,
    job     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    stdout  BLOB NOT NULL,
    stderr  BLOB NOT NULL
);
CREATE INDEX tail_of_job ON tail (job, attempt);

-- Workers the server has met, so that their ids and attempts mean the same after a restart.
CREATE TABLE worker (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    record BLOB NOT NULL
);

-- Orders to end an attempt that its worker has not confirmed yet.
CREATE TABLE stop_order (
    worker INTEGER NOT NULL,
    job    INTEGER NOT NULL,
    fence  INTEGER NOT NULL,
    why    TEXT NOT NULL,
    PRIMARY KEY (worker, job, fence)
) WITHOUT ROWID;

-- Workers that a person keeps from taking jobs, since when and why. New in version 2.
CREATE TABLE pause (
    worker INTEGER PRIMARY KEY,
    since  REAL NOT NULL,
    reason TEXT NOT NULL
);

-- What people have set of queues; `max_running` null: no limit, `paused_since` null: not paused. New in version 3.
CREATE TABLE queue (
    name         TEXT PRIMARY KEY,
    weight       INTEGER NOT NULL,
    max_running  INTEGER,
    paused_since REAL,
    reason       TEXT NOT NULL
) WITHOUT ROWID;

-- Tasks of arrays as they were submitted, all with ids from first to last: `plan` is an encoded PlanRecord. What became
-- of one of them is in `progress`; without a row there it is in the state that is said here. New in version 4.
CREATE TABLE part (
    first        INTEGER PRIMARY KEY,
    last         INTEGER NOT NULL,
    submitted_at REAL NOT NULL,
    context      TEXT NOT NULL,
    plan         BLOB NOT NULL,
    state        TEXT NOT NULL,
    finished_at  REAL NOT NULL
);

-- Submits of the last seven days, so that a repeated one makes no second job.
CREATE TABLE submit_token (
    token        TEXT PRIMARY KEY,
    first        INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    used_at      REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX submit_token_by_age ON submit_token (used_at);

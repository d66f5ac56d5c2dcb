"""The keeper: the small, stable process that is the parent of all jobs of one worker.

It imports only the standard library, has one thread, and outlives agents: an agent may crash or be
upgraded while jobs run on. It spawns, waits, enforces time limits, kills, and keeps a record file, nothing
else; it never opens a path that may hang (the agent passes descriptors).

The protocol between agent and keeper (version 3). An abstract Unix stream socket; a frame is a 4-byte
big-endian length and a JSON list of messages (objects with `m`), so a busy agent sends many in one
system call. File descriptors travel with the frame (SCM_RIGHTS), in the order in which its messages ask
for them; a frame carries at most 200. Strings that are not UTF-8 are surrogate-escaped. A *key* names an
attempt: `<journal>/<job>/<fence>`. Clocks are CLOCK_BOOTTIME seconds. Everything is answered in order.

Agent to keeper:

- `hello {v, agent}`: first; the keeper drops an older agent's connection, forgets its environments and
  directories, and answers `state`. Whoever sends anything else first, or anything that is not of this
  protocol, loses the connection; what came before the fault was done.
- `env {id, env: [[name, value], …]}`: an environment that later spawns name; the keeper forgets the least
  recently used beyond 256 (an unknown one is answered `no_env`, and that spawn did not happen).
- `dir {id}` + 1 descriptor: an open working directory; `undir {id}`.
- `spawn {key, job, attempt, program, argv, env, extra: [[name, value], …], dir, out, err, umask, limits:
  {name: soft}, nice, oom, time_limit, note, room, until}`: `program` is the file to execute (absolute, or relative to
  the directory); `extra` overrides `env`, and the keeper adds `KUEUE_FENCE=<key>`, by which it finds strays;
  `out`/`err` are `null` or `"null"` (discard), `{path}` (a file that the keeper creates, 0600, truncated;
  in the spool also the directories above it), or `{fd: true}` (+ 1 descriptor; `out` first); `err: "out"`:
  the same description as `out`. `umask` null: the one that the keeper was started with; `limits`: -1 is
  unlimited; `time_limit`: seconds or null. `note` is any JSON (nested 49 deep at most), kept for the agent.
  The record is on file before the spawn. The same key twice is answered with what is known of it.
  `room` and `until` (optional, since version 3): attempts of the same room (any text) can take each other's place.
  One with `until` does not start now but waits in line; when an attempt of its room ends, the first in line whose
  `until` is not over starts, and that `ended` names it as `next`.
- `go {key}`: one that is still in line starts now; `drop {key}`: it is not to start, answered `dropped`; neither says
  or does anything about one that has left the line (since version 3). The line ends with the agent's connection.
- `kill {key, grace, end, text}`: TERM to the session and strays, KILL after `grace` seconds; `end` is recorded
  as the attempt's end (`stopped`, `interrupted`, or, since version 2, `output_limit`) unless it exited
  before, and so is `text` (optional, since version 2; then `code` is as `end`). The first of several decides, a
  later one can only shorten the grace. `ended` follows when nothing of the job is left. Of an attempt that
  has ended but is not forgotten, what it left behind is ended, without a message.
- `forget {keys}`: the server has the ends of these: drop the records.
- `ping {n}`; `exit {grace}`: end all jobs (`interrupted`), then the keeper itself.

Keeper to agent:

- `state {v, keeper, boot, program, records: [record, …], more}`: `program` is the version of the programs
  that it is of, if it was told (an agent of another version replaces it when idle); the whole record, in
  frames of at most 500; a record is `{key, job, attempt, state: running|ended, pid, started, …, note}`,
  with the fields of `ended` where it has.
- `started {key, pid, started}`
- `ended {key, end, status, started, ended, cpu_seconds, peak_kb, code, text, next}`: `status` is the raw wait
  status or null; `end` as in `kueue.job.End`; `code`/`text` for `not_started` (`no_program`,
  `no_directory`, `output`, `spawn`; `exhausted`: the machine has no room for it now) and `lost`. `ended`
  null: nobody knows when; both times at or before 0: in an earlier boot, and only their difference means
  something.
- `no_env {key, id}`, `dropped {key}`, `pong {n}`, `leaving {}`: was told to end (TERM): jobs are being interrupted,
  and what is to be spawned now is answered `ended` as `interrupted`. The connection ends with the keeper.
"""

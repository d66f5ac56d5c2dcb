"""Starting a keeper: `python -m kueue_worker.keeper --spool DIR --address NAME`, by the agent."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time

from kueue_worker.keeper import trees
from kueue_worker.keeper.loop import Keeper, boottime
from kueue_worker.keeper.records import Records
from kueue_worker.keeper.wire import listen

MOST_LOG_BYTES = 1024 * 1024


class Log:
    """A few lines for the person who looks; the file is begun anew when it is long."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, text: str) -> None:
        try:
            mode = (
                "a" if not os.path.exists(self._path) or os.path.getsize(self._path) < MOST_LOG_BYTES else "w"
            )
            with open(self._path, mode, opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper {os.getpid()} {text}\n")
        except OSError:
            pass


def main() -> int:
    """Serve until told to end; the exit code."""
    parser = argparse.ArgumentParser(prog="kueue_worker.keeper")
    parser.add_argument("--spool", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--grace", type=float, default=5.0)
    parser.add_argument("--idle", type=float, default=60.0)
    arguments = parser.parse_args()
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.makedirs(arguments.spool, mode=0o700, exist_ok=True)
    log = Log(os.path.join(arguments.spool, "keeper.log"))
    try:
        listener = listen(arguments.address)
    except OSError:
        return 0  # another keeper was faster, and serves
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    os.chdir("/")
    trees.become_subreaper()
    try:
        records = Records(os.path.join(arguments.spool, "records.jsonl"), boot)
    except OSError as error:
        log(f"can't keep records in {arguments.spool}: {error}")
        return 1
    _end_what_was_left(records, log)
    keeper = Keeper(
        listener,
        records,
        secrets.token_hex(8),
        boot,
        log,
        grace_seconds=arguments.grace,
        idle_seconds=arguments.idle,
    )
    listener.listen(16)
    log("serves")
    try:
        keeper.run()
    except Exception as error:  # the last word before the jobs are left to the next keeper
        log(f"died: {error!r}")
        raise
    return 0


def _end_what_was_left(records: Records, log: Log) -> None:
    """Attempts of a keeper that died: what still runs of them is ended, then they are lost."""
    unfinished = [key for key, record in records.attempts.items() if record["state"] != "ended"]
    if not unfinished:
        return
    left = trees.end_leftovers(unfinished) if records.of_this_boot else 0
    log(f"{len(unfinished)} attempts of an earlier keeper are lost, {left} of their processes were ended")
    for key in unfinished:
        record = records.attempts[key]
        text = (
            "the worker's keeper died under it" if records.of_this_boot else "its machine went down under it"
        )
        fields = {"end": "lost", "status": None, "started": record["started"], "ended": boottime()}
        if not records.of_this_boot:
            fields |= {"started": None}
        records.ended(key, {**fields, "cpu_seconds": 0.0, "peak_kb": 0, "code": "lost", "text": text})
    records.flush()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m kueue_worker.keeper --spool DIR`: started by an agent, and then on its own.

Exit code 0 also if another keeper serves this spool already: the agent will find that one. 1: it can't serve;
the line that says why is in the log and on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from kueue_worker.keeper.attempts import LOST, Ended
from kueue_worker.keeper.boot import boot_id, boottime
from kueue_worker.keeper.keeper import Keeper
from kueue_worker.keeper.kill import Endings
from kueue_worker.keeper.leftovers import end_leftovers
from kueue_worker.keeper.limits import Limits, raise_open_files
from kueue_worker.keeper.log import Log
from kueue_worker.keeper.loop import Loop
from kueue_worker.keeper.place import PlaceError, TakenError, hold, keeper_address, lock_spool, make_spool
from kueue_worker.keeper.records import Found, Records, RecordsError, read
from kueue_worker.keeper.spawn import Spawner

PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str] | None = None) -> int:
    """Serve; the exit code."""
    options = _parse(arguments)
    spool = os.path.abspath(options.spool)
    try:
        make_spool(spool)
        listener = hold(options.address or keeper_address(spool))
        lock = lock_spool(spool)
    except TakenError:
        return 0
    except (PlaceError, OSError) as error:
        print(f"keeper: {error}", file=sys.stderr)
        return 1
    _detach(listener.fileno(), lock)
    log = Log(spool)
    try:
        found = read(spool)
        boot = boot_id()
        settle_lost(found, boot, log.write)
        inherited = raise_open_files()
        records = Records(spool, boot, found.attempts)
        spawner = Spawner(spool, Limits(inherited))
    except (RecordsError, OSError) as error:
        log.write(f"cannot serve: {error}")
        return 1
    _adopt_orphans(log)
    name = os.urandom(8).hex()
    endings = Endings(os.getpid())
    keeper = Keeper(
        name, boot, found.attempts, records, spawner, endings, log.write, boottime, options.program
    )
    loop = Loop(keeper, listener, log.write, grace=options.grace, idle=options.idle)
    log.write(f"{name} serves {spool}")
    gc.freeze()  # nothing of all this will ever be garbage
    loop.serve()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kueue_worker.keeper", description=__doc__)
    parser.add_argument("--spool", required=True, metavar="DIR", help="its records, its log, output of jobs")
    parser.add_argument("--address", metavar="NAME", help="abstract socket; the spool's own by default")
    parser.add_argument("--program", metavar="VERSION", help="of the agent that starts it; told to others")
    parser.add_argument(
        "--grace", type=float, default=5.0, metavar="SECONDS", help="from TERM to KILL when told to end"
    )
    parser.add_argument(
        "--idle", type=float, default=60.0, metavar="SECONDS", help="ends when there is nothing to do so long"
    )
    return parser.parse_args(arguments)


def _detach(*kept: int) -> None:
    """Leave the agent's terminal, directory and descriptors behind."""
    with contextlib.suppress(PermissionError):  # is a leader already
        os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    # Those that there are: a range up to a limit of a thousand million takes minutes on an older kernel.
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # the one of the listing
                os.close(descriptor)


def settle_lost(found: Found, boot: str, say: Callable[[str], None]) -> None:
    """End what is left of attempts whose keeper died under them; then they are lost, and may run
    elsewhere."""
    if found.damaged:
        say(f"{found.damaged} lines of the records can't be read and are left out")
    lost = [attempt for attempt in found.attempts.values() if attempt.ended is None]
    same_boot = found.boot in (boot, "")  # unknown: the first line is damaged
    for attempt in found.attempts.values():
        if not found.boot:
            attempt.pid = None
        if not same_boot and attempt.ended is not None:
            attempt.ended = _before_boot(attempt.ended)
    if not lost:
        return
    if same_boot:
        count = end_leftovers(lost, say)
        say(f"{len(lost)} attempts of an earlier keeper are lost; {count} of their processes were ended")
        text, ended = "the worker's keeper died under it", boottime()
    else:
        say(f"{len(lost)} attempts were lost when the machine went down")
        text, ended = "its machine went down", None
    for attempt in lost:
        started = attempt.started if same_boot else None
        attempt.ended = Ended(LOST, None, started, ended, code="lost", text=text)


def _before_boot(ended: Ended) -> Ended:
    """An end before this boot, whose times are of another clock: as if it had been at the boot."""
    if ended.started is None or ended.ended is None:
        return replace(ended, started=None, ended=None)
    return replace(ended, started=ended.started - ended.ended, ended=0.0)


def _adopt_orphans(log: Log) -> None:
    """Be the parent of whatever jobs leave behind, so that it can be found and waited for."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        log.write(f"orphans of jobs can't be adopted: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    sys.exit(main())

"""Why the jobs wait, all of them in a few lines: by the lanes that they stand in, not job by job.

A lane (one queue, one shape, one volume) shares what keeps it waiting, but for directories and programs, for which some
of its first jobs are looked at. What that says of those behind them is `about` right, and told so.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

import msgspec

from kueue.job import JobState
from kueue.wire.messages import Reason, WaitGroup
from kueue_server.core import turns
from kueue_server.core.glance import closed_lanes
from kueue_server.core.pending import Lane, job_of
from kueue_server.core.state import State
from kueue_server.core.waiting import WhyWaiting

MOST_GROUPS = 10
MOST_HOLDERS = 10
LANES_TIMES_WORKERS = 6000
"""Lanes that are looked at, times the workers that each is compared with."""
LEAST_LANES = 8
LOOKS_PER_LANE = 16
MOST_LOOKS = 128
BUSY = Reason("busy", "every worker that fits is busy")
OTHERS = Reason("busy", "for others, not looked at")
NEXT_TRY = Reason("retry", "for their next try")
FOLLOWS = Reason("predecessors", "for other jobs")
HELD_BACK = Reason("held", "held until a person decides")


class _Group(msgspec.Struct):
    count: int = 0
    about: bool = False


def why_many_wait(state: State, why: WhyWaiting) -> tuple[WaitGroup, ...]:
    """The reasons of all jobs that wait and how many wait for each, the most frequent first."""
    groups: dict[Reason, _Group] = {}
    looks = MOST_LOOKS
    workers = max(1, len(state.workers.by_session))
    lanes = max(LEAST_LANES, LANES_TIMES_WORKERS // workers)
    left = state.pending.size
    for lane in islice(chain(turns.lanes(state.queues), closed_lanes(state.queues)), lanes):
        left -= len(lane)
        shared = why.shared_by(lane)
        if shared is not None:
            _add(groups, _told(shared), len(lane))
            continue
        looks -= _add_one_by_one(state, why, groups, lane, looks)
    if left:
        _add(groups, OTHERS, left)
    _add_waiting(state, groups)
    found = sorted(groups.items(), key=lambda item: -item[1].count)
    told = [WaitGroup(group.count, reason, _holders(state, reason), group.about) for reason, group in found]
    if len(told) > MOST_GROUPS:
        rest = sum(group.count for group in told[MOST_GROUPS - 1 :])
        told[MOST_GROUPS - 1 :] = [WaitGroup(rest, Reason("busy", "for other reasons"))]
    return tuple(told)


def _add_one_by_one(
    state: State, why: WhyWaiting, groups: dict[Reason, _Group], lane: Lane, looks: int
) -> int:
    """Look at the first jobs of a lane; how many that were."""
    assert lane.head is not None
    found: Counter[Reason] = Counter()
    for key in islice(lane.keys_from(lane.head), min(LOOKS_PER_LANE, max(1, looks))):
        found[_told(why.reason(state.table.jobs[job_of(key)]))] += 1
    looked = found.total()
    if len(lane) == looked:
        for reason, count in found.items():
            _add(groups, reason, count)
        return looked
    by_code: dict[str, list[Reason]] = {}
    for reason in found:
        by_code.setdefault(reason.code, []).append(reason)
    # Those behind them are taken to wait for what most of these do.
    counts = {code: sum(found[reason] for reason in reasons) for code, reasons in by_code.items()}
    most = max(counts, key=lambda code: counts[code])
    for code, reasons in by_code.items():
        first = reasons[0] if len(reasons) == 1 else Reason(code, f"{reasons[0].text} and the like")
        rest = len(lane) - looked if code == most else 0
        _add(groups, first, counts[code] + rest).about |= code == most
    return looked


def _add_waiting(state: State, groups: dict[Reason, _Group]) -> None:
    """Those that are not pending yet: for another try, for other jobs, for a person."""
    waiting = state.table.by_state[JobState.WAITING]
    found: Counter[Reason] = Counter()
    for job_id in islice(waiting, MOST_LOOKS):
        job = state.table.look(job_id)
        reason = None if job is None else job.reason
        code = FOLLOWS.code if reason is None else reason.code
        found[HELD_BACK if code == HELD_BACK.code else NEXT_TRY if code == NEXT_TRY.code else FOLLOWS] += 1
    for reason, count in found.items():
        _add(groups, reason, count)
    if len(waiting) > found.total():
        _add(groups, found.most_common(1)[0][0], len(waiting) - found.total()).about = True


def _add(groups: dict[Reason, _Group], reason: Reason, count: int) -> _Group:
    group = groups.setdefault(reason, _Group())
    group.count += count
    return group


def _told(reason: Reason) -> Reason:
    """What is said of many: a place in the line is one job's own."""
    if reason.code == "busy":
        return BUSY
    if reason.code == "resource":
        return Reason("resource", reason.text.removesuffix(" in use"))
    return reason


def _holders(state: State, reason: Reason) -> tuple[int, ...]:
    """The jobs that have what the others wait for."""
    if reason.code != "resource":
        return ()
    holders = state.ledger.holders.get(reason.text.split(" ", 1)[0], {})
    return tuple(sorted(islice(holders, MOST_HOLDERS)))

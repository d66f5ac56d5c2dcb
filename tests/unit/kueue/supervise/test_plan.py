"""What is done on a machine, given what was seen of it."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from kueue.supervise.plan import (
    DEPART_SECONDS,
    SILENT_SECONDS,
    CloseSession,
    End,
    EndKeepers,
    Launch,
    Ours,
    Plan,
    Wipe,
    Wish,
    plan,
)
from kueue.supervise.seen import Seen, SeenAgent, SeenSession

OURS = Ours(server="ralab29:11236", config="/home/you/.config/kueue/config.toml", config_is_default=True)
WELL = SeenAgent(
    pid=7,
    ticks=70,
    since=1e9,
    answers=True,
    name="rax11-0",
    version="1",
    server=OURS.server,
    config=OURS.config,
    connected=True,
    jobs=2,
)
NOTHING = Seen(host="rax11", boot="b", agents=(), keepers=0, tool="screen")
ANEW = (End(WELL, "USR2", DEPART_SECONDS, kill=True), Launch(again=True))


def seen(*agents: SeenAgent, keepers: int = 1, sessions: tuple[SeenSession, ...] = ()) -> Seen:
    return msgspec.structs.replace(NOTHING, agents=agents, keepers=keepers, sessions=sessions)


def but(agent: SeenAgent = WELL, **changes: object) -> SeenAgent:
    return msgspec.structs.replace(agent, **changes)


def test_a_worker_that_is_well_is_left_alone() -> None:
    assert plan(Wish.KEEP, seen(WELL), OURS) == Plan((), "", WELL)
    assert plan(Wish.LOOK, seen(WELL), OURS) == Plan((), "", WELL)


def test_where_there_is_none_one_is_launched_and_a_look_changes_nothing() -> None:
    assert plan(Wish.KEEP, NOTHING, OURS).steps == (Launch(),)
    assert plan(Wish.UPGRADE, NOTHING, OURS).steps == (Launch(),)
    assert plan(Wish.LOOK, NOTHING, OURS) == Plan((), "no worker", fault=True)
    assert plan(Wish.LOOK, seen(), OURS) == Plan((), "no worker; its jobs run on", fault=True)


def test_a_worker_of_another_cluster_counts_for_nothing_and_is_never_touched() -> None:
    other = but(server="elsewhere:1", config="/other.toml")
    silent_other = but(answers=False, server="", config="/other.toml")
    for agent in (other, silent_other):
        assert plan(Wish.KEEP, seen(agent), OURS) == Plan((Launch(),), "1 of another cluster stays")
        assert plan(Wish.STOP, seen(agent), OURS) == Plan((), "no worker")
    assert plan(Wish.KEEP, seen(other, WELL), OURS) == Plan((), "", WELL)


@pytest.mark.parametrize("config", [OURS.config, ""])
def test_a_silent_agent_of_our_file_is_told_to_leave_killed_if_need_be_and_launched_anew(config: str) -> None:
    silent = SeenAgent(pid=7, ticks=70, since=1e9, answers=False, config=config)
    steps = (End(silent, "USR2", SILENT_SECONDS, kill=True), Launch(again=True))
    assert plan(Wish.KEEP, seen(silent), OURS) == Plan(steps, "the agent does not answer", silent)
    assert plan(Wish.LOOK, seen(silent), OURS).fault


def test_an_agent_without_the_server_is_launched_anew_after_a_while_if_the_server_answers_others() -> None:
    alone = but(connected=False, alone_seconds=61.0, why_alone="connection refused")
    note = "without the server for 61 s: connection refused"
    steps = (End(alone, "USR2", DEPART_SECONDS, kill=True), Launch(again=True))
    assert plan(Wish.KEEP, seen(alone), OURS) == Plan(steps, note, alone)
    assert plan(Wish.LOOK, seen(alone), OURS) == Plan((), note, alone, fault=True)
    away = Ours(OURS.server, OURS.config, True, server_answers=False)
    waits = Plan((), "not connected: connection refused", alone)
    assert plan(Wish.KEEP, seen(alone), away) == plan(Wish.LOOK, seen(alone), away) == waits
    just_back = dataclasses.replace(OURS, server_seconds=5.0)
    assert plan(Wish.KEEP, seen(alone), just_back) == plan(Wish.LOOK, seen(alone), just_back) == waits
    recent = but(alone, alone_seconds=59.0)
    assert plan(Wish.KEEP, seen(recent), OURS) == Plan((), "not connected: connection refused", recent)


def test_an_agent_of_our_file_that_still_serves_another_server_is_launched_anew() -> None:
    moved = but(server="ralab01:11236")
    planned = plan(Wish.KEEP, seen(moved), OURS)
    assert planned.note == "it is a worker of ralab01:11236"
    assert planned.steps[-1] == Launch(again=True)


def test_an_agent_that_has_just_lost_a_server_that_moved_will_find_it_by_itself() -> None:
    looking = but(server="ralab01:11236", connected=False, alone_seconds=5.0, why_alone="connection refused")
    assert plan(Wish.KEEP, seen(looking), OURS) == Plan((), "not connected: connection refused", looking)


def test_one_that_is_ending_is_left_to_it() -> None:
    leaving = but(leaving=True, jobs=1)
    for wish in (Wish.KEEP, Wish.LOOK, Wish.UPGRADE):
        assert plan(wish, seen(leaving), OURS) == Plan((), "it is ending, 1 job left", leaving)


def test_an_upgrade_replaces_each_agent_and_touches_no_job() -> None:
    assert plan(Wish.UPGRADE, seen(WELL), OURS) == Plan(ANEW, "", WELL)


def test_stop_ends_all_of_ours_and_what_a_dead_agent_left() -> None:
    silent = but(pid=8, answers=False, config="")
    planned = plan(Wish.STOP, seen(WELL, silent), OURS)
    assert planned.steps == (
        End(WELL, "TERM", OURS.stop_seconds),
        End(silent, "TERM", OURS.stop_seconds, kill=True),
    )
    assert plan(Wish.STOP, seen(keepers=1), OURS).steps == (EndKeepers(OURS.stop_seconds),)
    assert plan(Wish.STOP, NOTHING, OURS) == Plan((), "no worker")


def test_draining_is_asked_for_once_since_asking_twice_would_interrupt() -> None:
    assert plan(Wish.DRAIN, seen(WELL), OURS) == Plan((End(WELL, "INT", 0.0),), "2 jobs left", WELL)
    leaving = but(leaving=True)
    assert plan(Wish.DRAIN, seen(leaving), OURS) == Plan((), "2 jobs left", leaving)
    assert plan(Wish.DRAIN, seen(keepers=1), OURS) == Plan((), "no worker; its jobs run to their end")


def test_dead_sockets_are_wiped_unless_other_machines_see_them_too() -> None:
    dead = SeenSession("screen", "5.kueue_worker", "dead")
    assert plan(Wish.KEEP, seen(WELL, sessions=(dead,)), OURS).steps == (Wipe(),)
    shared = msgspec.structs.replace(seen(WELL, sessions=(dead,)), may_wipe=False)
    assert plan(Wish.KEEP, shared, OURS).steps == ()


def test_only_old_sessions_of_a_supervisor_without_a_worker_are_closed() -> None:
    left = SeenSession("screen", "5.kueue_worker", "live", launched=True, age_seconds=61)
    young = SeenSession("screen", "6.kueue_worker", "live", launched=True, age_seconds=59)
    own = SeenSession("screen", "7.kueue_worker", "live", launched=False, age_seconds=1e6)
    sessions = (left, young, own)
    assert plan(Wish.KEEP, seen(sessions=sessions), OURS).steps == (CloseSession(left), Launch())
    assert plan(Wish.KEEP, seen(WELL, sessions=sessions), OURS).steps == ()

"""Soft limits: which are set around the spawn, which on the job, and that the keeper keeps its own."""

from __future__ import annotations

import resource
import subprocess

from kueue_worker.keeper.limits import NAMES, NOTHING, Limits, set_on, set_own


def test_what_is_as_it_is_needs_nothing() -> None:
    wanted = {name: resource.getrlimit(number)[0] for name, number in NAMES.items()}
    assert Limits().plan(wanted) is NOTHING
    assert Limits().plan({"unheard_of": 3}) is NOTHING


def test_harmless_ones_go_around_and_the_others_on_the_job() -> None:
    nofile_soft, nofile_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = Limits().plan({"nofile": 50, "cpu": 1000, "stack": 8192})
    assert plan.around == ((resource.RLIMIT_NOFILE, (50, nofile_hard)),)
    assert plan.back == ((resource.RLIMIT_NOFILE, (nofile_soft, nofile_hard)),)
    assert {number for number, _ in plan.afterwards} == {resource.RLIMIT_CPU, resource.RLIMIT_STACK}


def test_nothing_is_above_the_hard_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Limits({resource.RLIMIT_NOFILE: 20})
    for wanted in (-1, hard + 1, 2**70):
        (setting,) = limits.plan({"nofile": wanted}).around or ((resource.RLIMIT_NOFILE, (hard, hard)),)
        assert setting == (resource.RLIMIT_NOFILE, (hard, hard))


def test_a_job_that_says_nothing_has_what_the_keeper_came_with() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = Limits({resource.RLIMIT_NOFILE: soft - 1}).plan({})
    assert plan.around == ((resource.RLIMIT_NOFILE, (soft - 1, hard)),)


def test_setting_and_setting_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = Limits().plan({"nofile": before[0] - 1})
    set_own(plan.around)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[0] - 1
    set_own(plan.back)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_job_that_is_gone_is_no_fault() -> None:
    plan = Limits().plan({"cpu": 77})
    with subprocess.Popen(["/bin/sleep", "1000"]) as child:
        set_on(child.pid, plan.afterwards)
        assert resource.prlimit(child.pid, resource.RLIMIT_CPU)[0] == 77
        child.kill()
    set_on(child.pid, plan.afterwards)

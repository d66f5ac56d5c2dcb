"""Why the pending jobs wait, in groups: by queues, not job by job."""

from __future__ import annotations

from kueue.wire.messages import Reason, WaitGroup
from kueue_server.core.events import Limits
from kueue_server.core.grouping import LOOKS_PER_LANE, MOST_GROUPS
from tests.support.core_bench import Bench, make_spec


def waits(bench: Bench) -> list[WaitGroup]:
    return list(bench.core.glance(1, bench.time)[2])


def test_nothing_that_waits_has_no_reasons() -> None:
    assert waits(Bench()) == []


def test_jobs_that_wait_for_a_licence_name_those_that_have_it() -> None:
    bench = Bench(Limits(global_resources=(("genus", 3),)))
    session = bench.worker("w1", cpus=8)
    bench.submit(*[make_spec(resources={"genus": 1})] * 5)
    bench.started(session, (1, 1), (2, 2), (3, 3))
    assert waits(bench) == [WaitGroup(2, Reason("resource", "genus 3/3"), (1, 2, 3))]


def test_the_same_reason_of_several_queues_is_one_group_and_the_largest_comes_first() -> None:
    bench = Bench()
    bench.worker("w1", cpus=1)
    bench.submit(make_spec(), make_spec(cpus=64), make_spec(ram_mb=50), make_spec(ram_mb=60))
    assert [(group.count, group.reason.code) for group in waits(bench)] == [(2, "busy"), (1, "no_fit")]
    assert waits(bench)[0].reason.text == "every worker that fits is busy"


def test_what_nobody_sees_is_told_by_its_directory() -> None:
    bench = Bench()
    session = bench.worker("w1", cpus=2)
    bench.submit(*(make_spec(cpus=2, cwd=f"/data/gone/{number % 2}") for number in range(4)))
    bench.refused(session, 1, 1, "no_directory", "/data")
    found = waits(bench)
    assert [(group.count, group.reason) for group in found] == [
        (2, Reason("no_directory", "no worker sees /data/gone/0 (1 asked)")),
        (2, Reason("no_directory", "no worker sees /data/gone/1 (1 asked)")),
    ]
    assert not any(group.about for group in found)


def test_of_many_jobs_in_one_queue_the_first_are_looked_at_and_the_rest_is_about() -> None:
    bench = Bench()
    session = bench.worker("w1", cpus=2)
    bench.submit(*[make_spec(cpus=2, cwd="/data/gone")] * 1000)
    bench.refused(session, 1, 1, "no_directory", "/data")
    before = bench.core._state.looks
    (group,) = waits(bench)
    assert group == WaitGroup(1000, Reason("no_directory", "no worker sees /data/gone (1 asked)"), about=True)
    assert bench.core._state.looks == before
    assert LOOKS_PER_LANE < 1000


def test_where_each_job_has_a_directory_of_its_own_one_stands_for_all() -> None:
    bench = Bench()
    session = bench.worker("w1", cpus=2)
    bench.submit(*(make_spec(cpus=2, cwd=f"/data/gone/{number}") for number in range(1000)))
    bench.refused(session, 1, 1, "no_directory", "/data")
    text = "no worker sees /data/gone/0 (1 asked) and the like"
    assert waits(bench) == [WaitGroup(1000, Reason("no_directory", text), about=True)]


def test_there_are_only_so_many_groups_and_all_are_counted() -> None:
    bench = Bench()
    bench.worker("w1", cpus=1)
    bench.submit(*(make_spec(cpus=64 + number) for number in range(30)))
    found = waits(bench)
    assert len(found) == MOST_GROUPS
    assert sum(group.count for group in found) == 30
    assert found[-1].reason.text == "for other reasons"


def test_queues_beyond_what_one_look_may_cost_are_counted_not_looked_at() -> None:
    bench = Bench()
    bench.checked = False
    for number in range(100):
        bench.worker(f"w{number}", cpus=1)
    bench.submit(*(make_spec(cpus=2, cwd=f"/{number}/x", volume=f"/{number}") for number in range(500)))
    found = waits(bench)
    assert sum(group.count for group in found) == 500
    assert {group.reason.text for group in found} >= {"for others, not looked at"}

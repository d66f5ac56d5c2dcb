"""Jobs that wait for others, with real programs: the commands that people give, and servers that die meanwhile."""

from __future__ import annotations

from pathlib import Path

from kueue import Client, JobSpec, Selector
from tests.support.gated import gated, go, starts
from tests.support.lab import SECRET, Lab


def client_of(lab: Lab) -> Client:
    return Client(address=(lab.host, lab.port), secret=SECRET)


def test_a_chain_runs_one_after_the_other(lab: Lab) -> None:
    first = lab.submit(*gated(lab, "a"))
    second = lab.submit(
        "--after", str(first), "sh", "-c", f"cat {lab.work}/a.done && echo two > {lab.work}/two"
    )
    third = lab.submit("--after", "last", "cat", f"{lab.work}/two")
    lab.wait_state(first, "running")
    assert lab.state_of(second) == lab.state_of(third) == "waiting"
    assert "waits for job " in lab.ok("list-jobs")
    shown = lab.ok("show-job", str(second))
    assert f"after:        {first}; canceled if one fails" in shown
    assert f"waits for:    1 job: {first}" in shown
    assert f"waits for job {first}" in lab.ok("explain", str(second))
    row = lab.json("show-job", str(second))
    assert (row["after"], row["awaited"], row["reason"]["code"]) == ([[first, first]], 1, "predecessors")
    go(lab, "a")
    lab.ok("wait-job", str(third))
    assert lab.ok("logs", str(third)) == "two\n"


def test_what_follows_a_failure_is_canceled_held_or_runs(lab: Lab) -> None:
    bad = lab.submit("sh", "-c", "exit 3")
    canceled = lab.submit("--after", str(bad), "true")
    held = lab.submit("--after", str(bad), "--on-failure", "hold", "true")
    runs = lab.submit("--after", str(bad), "--on-failure", "run", "true")
    after_any = lab.submit("--after-any", f"{bad},{canceled}", "true")
    lab.ok("wait-job", str(runs), str(after_any))
    found = lab.wait_state(canceled, "canceled")
    assert found["reason"] == {"code": "predecessor", "text": f"job {bad} failed (exit 3)"}
    assert lab.job(held)["reason"]["code"] == "held"
    lab.ok("set-job", str(held), "--release")
    lab.wait_state(held, "succeeded")


def test_groups_may_be_followed_and_files_of_jobs_may_follow(lab: Lab, tmp_path: Path) -> None:
    lab.ok("cmd", "-g", "one", *gated(lab, "a"))
    lab.ok("cmd", "-g", "one", *gated(lab, "b"))
    lines = tmp_path / "lines"
    lines.write_text("x\ny\nz\n")
    ids = lab.ok("cmd", "-g", "one", "--after", "group=one", "--each-line", str(lines), "echo").strip()
    assert lab.json("show-job", ids.split("-")[0])["after"] == [[1, 2]]
    assert lab.json("show-job", ids.split("-")[1])["after"] == [[1, 2]]
    go(lab, "a")
    lab.wait_state(1, "succeeded")
    assert lab.json("show-job", ids.split("-")[0])["awaited_ranges"] == [[2, 2]]
    go(lab, "b")
    lab.ok("wait-job", ids)


def test_a_script_may_say_what_it_follows(lab: Lab) -> None:
    first = lab.submit("true")
    script = lab.work / "run.sh"
    script.write_text(f"#!/bin/sh\n#KUEUE --after {first} --on-failure hold\ntrue\n")
    script.chmod(0o700)
    found = lab.json("show-job", str(lab.submit(str(script))))
    assert (found["after"], found["on_failure"]) == ([[first, first]], "hold")


def test_jobs_that_are_not_there_are_refused_by_name(lab: Lab) -> None:
    job = lab.submit("true")
    done = lab.kueue("cmd", "--after", f"{job},77,80-82", "true")
    assert done.returncode == 1
    assert "no jobs 77 80-82 that could be waited for" in str(done.stderr)
    done = lab.kueue("cmd", "--after", "group=nobody", "true")
    assert done.returncode == 1
    assert "no job is in group nobody" in str(done.stderr)


def test_a_server_that_is_killed_forgets_nobody(lab: Lab) -> None:
    first = lab.submit(*gated(lab, "a"))
    bad = lab.submit("sh", "-c", "exit 3")
    lab.wait_state(bad, "failed")
    with client_of(lab) as client:
        waiting = client.submit_many(JobSpec(["true"], after=first) for _ in range(20))
        held = client.submit(["true"], after=[bad, first], on_failure="hold")
        last = client.submit(["true"], after=waiting, after_any=[bad])
        client.clean(failed=True)
    lab.wait_state(first, "running")
    lab.kill_server()
    go(lab, "a")
    lab.start_server()
    lab.wait_state(last.id, "succeeded")
    assert lab.job(held.id)["reason"]["code"] == "held"
    lab.kill_server()
    lab.start_server()
    assert lab.job(held.id)["reason"]["code"] == "held"
    assert starts(lab, "a") == ["1"]
    with client_of(lab) as client:
        client.change([held], release=True)
        assert client.wait(held).succeeded
        assert client.select(Selector(everything=True)).counts.succeeded == 23

"""Many jobs on many hosts that lose their power one after the other, while the supervisor brings them back."""

from __future__ import annotations

import datetime
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.desk import Desk
from tests.cluster.hosts import DESK, HOME

JOB = f"""
echo "$KUEUE_JOB_ID $KUEUE_ATTEMPT start" >> {HOME}/record
if [ "$1" = gate ]; then until [ -e {HOME}/gate ]; do sleep 0.2; done; else sleep "$1"; fi
echo "$KUEUE_JOB_ID $KUEUE_ATTEMPT end" >> {HOME}/record
"""
SUBMIT = """
import json, sys
from kueue import Client, JobSpec
with Client() as client:
    client.submit_many([JobSpec(command=("sh", "-c", sys.argv[1], "job", seconds)) for seconds in json.load(sys.stdin)])
"""


class Campaign:
    """Jobs, the hosts that were killed under them and when, and what the jobs wrote."""

    def __init__(self, desk: Desk, chance: random.Random) -> None:
        self.desk = desk
        self.chance = chance
        self.kills: dict[str, list[float]] = defaultdict(list)

    def submit(self, number: int, longest_seconds: float, gated: int = 0) -> None:
        """So many that take their time, after some that wait for the file `gate`."""
        seconds = [f"{self.chance.uniform(0.1, longest_seconds):.3f}" for _ in range(number)]
        seconds = ["gate"] * gated + seconds
        self.desk.hosts.run(DESK, sys.executable, "-c", SUBMIT, JOB, text=json.dumps(seconds))

    def lose_power(self) -> None:
        """A random host dies, and is back at once, without a worker."""
        name = self.chance.choice(self.desk.names)
        self.kills[name].append(time.time())
        self.desk.hosts.kill(name)
        self.desk.hosts.boot(name)

    def check(self, number: int) -> int:
        """Each job ran to its end once; an attempt that did not, had its host die under it. How many were those?"""
        lines = (self.desk.hosts.home / "record").read_text().splitlines()
        assert len(lines) == len(set(lines)), "no attempt ran twice"
        jobs = self.desk.jobs()
        assert len(jobs) == number
        lost = 0
        for job in jobs:
            attempts: list[dict[str, Any]] = job["attempts"]
            assert job["state"] == "succeeded", job
            numbers = [each["attempt"] for each in attempts]
            begun = [number for number in range(1, 100) if f"{job['id']} {number} start" in lines]
            assert sorted(numbers) == numbers
            assert set(begun) <= set(numbers), (job, "an attempt that ran is not in its record")
            last = attempts[-1]
            assert f"{job['id']} {last['attempt']} end" in lines
            for before in attempts[:-1]:
                host = before["worker"].rpartition("-")[0]
                began = before["started_at"] or job["submitted_at"]
                since = datetime.datetime.fromisoformat(began).timestamp()
                assert any(at >= since - 1 for at in self.kills[host]), (job, self.kills)
                assert before["end"] in ("lost", "interrupted"), job
                lost += 1
            ends = sum(line.startswith(f"{job['id']} ") and line.endswith(" end") for line in lines)
            assert ends == 1 or (1 < ends <= len(attempts) and len(attempts) > 1), (job, lines)
        return lost


@pytest.mark.timeout(600)
def test_every_job_of_a_campaign_finishes_once_while_hosts_die_and_agents_are_upgraded(
    make_desk: Callable[..., Desk], long_form: bool
) -> None:
    hosts, jobs, longest, kills = (12, 500, 5.0, 12) if long_form else (5, 60, 3.0, 3)
    desk = make_desk(
        *[f"rax{number:02d}" for number in range(1, hosts + 1)],
        supervisor="connect_timeout_seconds = 20\nsleep_minutes_before_recheck = 0.05\nbackoff = 1.0",
        server="worker_timeout_seconds = 6",
        worker="worker_max_parallel_jobs = 2\nsystem_update_interval_seconds = 1",
    )
    campaign = Campaign(desk, random.Random(20261121))
    everyone = set(desk.names)
    desk.rows("--once")
    supervisor = desk.hosts.start(
        DESK, "kueue_restart_workers", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        campaign.submit(jobs, longest)
        for _ in range(kills):
            desk.wait_until("running or not unfinished")
            campaign.lose_power()
            time.sleep(campaign.chance.uniform(1, 4))  # a host dies every few seconds
        desk.wait_until_connected(everyone, seconds=120)
    finally:
        desk.hosts.signal(DESK, "TERM", *desk.hosts.pids(DESK, "kueue_restart_workers"[:15]))
        log = supervisor.communicate(timeout=60)[0]
    assert "started in screen" in log
    assert "Traceback" not in log

    before = {name: desk.hosts.agents(name) for name in desk.names}
    desk.wait_until("not unfinished", seconds=180)
    campaign.submit(jobs // 2, longest, gated=hosts)
    desk.wait_until(f"running >= {hosts}")
    rows = desk.rows("--upgrade")
    assert {row["done"] for row in rows.values()} == {"restarted in screen"}
    assert sum(row["jobs"] for row in rows.values()) > 0
    assert not any(set(before[name]) & set(desk.hosts.agents(name)) for name in desk.names)

    desk.hosts.write_home("gate", "")
    desk.wait_until("not unfinished", seconds=180)
    lost = campaign.check(jobs + jobs // 2 + hosts)
    print(f"{jobs + jobs // 2 + hosts} jobs, {kills} hosts died, {lost} attempts were lost with them")

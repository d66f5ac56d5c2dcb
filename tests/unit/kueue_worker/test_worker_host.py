"""What the machine is and what is in use on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kueue_worker.host import boottime, capacity, system_info, system_is_stopping
from kueue_worker.place import AgentLock, AlreadyRunningError, default_name, machine_id, name_on_host
from kueue_worker.usage import ProcessUse, UsageMeter, parse_stat, use_of_tree


def test_the_machine_is_described() -> None:
    info = system_info()
    assert info.cpus >= 1
    assert info.ram_mb > 0
    assert info.kernel
    assert capacity(7, (("gpu", 2),)).job_slots == 7
    assert capacity(None, ()).job_slots == capacity(None, ()).cpus


def test_this_machine_is_not_shutting_down() -> None:
    assert system_is_stopping() is False


def test_a_name_is_the_host_and_a_part_of_the_machine_s_id() -> None:
    host, _, part = default_name("lab-1").rpartition("-")
    assert host == "lab-1"
    assert len(part) == 8
    assert int(part, 16) >= 0
    assert part not in machine_id()  # the id itself is not to be published (machine-id(5))


def test_one_agent_for_a_spool_and_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    first = AgentLock(str(tmp_path))
    with pytest.raises(AlreadyRunningError):
        AgentLock(str(tmp_path))
    AgentLock(str(tmp_path / "another")).release()
    first.release()
    code = (
        "import os, sys; from kueue_worker.place import AgentLock;"
        "lock = AgentLock(sys.argv[1]); print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    holder = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert holder.stdout == b"held\n"
    AgentLock(str(tmp_path)).release()


def test_two_ways_to_name_a_spool_are_one_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert name_on_host("agent", f"{tmp_path}/link") == name_on_host("agent", str(tmp_path))
    assert name_on_host("agent", "/x") != name_on_host("keeper", "/x")


def test_a_process_s_name_can_not_confuse_its_numbers() -> None:
    numbers = " ".join(["S", "7", *["0"] * 9, "100", "200", "300", "400", *["0"] * 6, "256", *["0"] * 20])
    found = parse_stat(b"123 (a) b) S 9 (c) " + numbers.encode())
    ticks = os.sysconf("SC_CLK_TCK")
    assert found == ProcessUse(123, 7, 1000 / ticks, 256 * os.sysconf("SC_PAGE_SIZE") / 2**20)


def test_a_tree_is_the_root_and_all_its_descendants() -> None:
    processes = [
        ProcessUse(1, 0, 100.0, 100.0),
        ProcessUse(10, 1, 1.0, 10.0),
        ProcessUse(11, 10, 2.0, 20.0),
        ProcessUse(12, 11, 4.0, 40.0),
        ProcessUse(20, 1, 8.0, 80.0),
    ]
    assert use_of_tree(processes, 10) == (7.0, 70.0)
    assert use_of_tree(processes, 99) == (0.0, 0.0)


def test_use_is_measured_between_two_calls() -> None:
    meter = UsageMeter()
    first = meter.measure(os.getpid(), boottime())
    assert (first.cpus_used, first.cpus_used_by_ours) == (0.0, 0.0)
    assert first.ram_used_mb > 0
    assert first.ram_used_by_ours_mb > 1
    began, cpu = boottime(), time.process_time()
    while time.process_time() < cpu + 0.3:
        sum(range(1000))
    second = meter.measure(os.getpid(), boottime())
    assert 0.5 * 0.3 / (boottime() - began) < second.cpus_used_by_ours <= second.cpus_used


def test_with_a_new_keeper_nobody_is_taken_for_others() -> None:
    meter = UsageMeter()
    meter.measure(1, 10.0)
    sample = meter.measure(os.getpid(), 11.0)
    assert sample.cpus_used_by_ours == sample.cpus_used

"""A job that takes more memory than there is: the kernel ends it, and it says so; worker and other jobs go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.memory_group import memory_group
from tests.support.lab import Lab

GREEDY = "x = [bytes([i % 256]) * 4096 for i in range(1000000)]"


@pytest.mark.parametrize("by_a_shell", [False, True], ids=["itself", "by-a-shell"])
def test_a_job_that_the_kernel_kills_for_memory_says_so(
    make_lab: Callable[..., Lab], by_a_shell: bool
) -> None:
    lab = make_lab()
    lab.start_server()
    with memory_group(250) as under:
        try:
            lab.start_worker("w1", under=under)
            other = lab.submit("sleep", "1000")
            lab.wait_state(other, "running")
            greedy = ["python3", "-c", GREEDY]
            job = lab.submit(
                "-r", "100M", *(["sh", "-c", f'python3 -c "{GREEDY}"; exit $?'] if by_a_shell else greedy)
            )
            found = lab.wait_state(job, "failed")
            assert found["reason"]["code"] == "memory"
            assert found["reason"]["text"].startswith("killed for memory, peak ")
            assert found["reason"]["text"].endswith(" of 100 MB reserved")
            assert (found["signal"], found["return_code"]) == ((None, 137) if by_a_shell else (9, None))
            by_hand = lab.submit("sh", "-c", "kill -9 $$")
            assert lab.wait_state(by_hand, "failed")["reason"]["text"].startswith("signal 9 (SIGKILL)")
            assert lab.state_of(other) == "running"
        finally:
            lab.close()

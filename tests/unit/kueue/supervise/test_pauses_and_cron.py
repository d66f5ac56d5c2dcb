"""When a machine is looked at again: by a supervisor that stays, and by cron."""

from __future__ import annotations

import pytest

from kueue.supervise.cron import entries, schedule, without
from kueue.supervise.pauses import LONGEST_SECONDS, pause_seconds


def test_the_pause_grows_with_each_further_failure_up_to_a_day() -> None:
    assert [pause_seconds(60, 2.0, failures, 0.5) for failures in range(5)] == [60, 60, 120, 240, 480]
    assert pause_seconds(60, 2.0, 10**9, 0.5) == LONGEST_SECONDS
    assert pause_seconds(60, 1.0, 10**9, 0.5) == 60
    week = 7 * 86400
    assert pause_seconds(week, 2.0, 9, 0.5) == week


def test_only_failing_machines_are_spread() -> None:
    assert pause_seconds(100, 2.0, 0, 0.0) == pause_seconds(100, 2.0, 0, 1.0) == 100
    assert pause_seconds(100, 2.0, 1, 0.0) == pytest.approx(90)
    assert pause_seconds(100, 2.0, 1, 1.0) == pytest.approx(110)


@pytest.mark.parametrize(
    ("minutes", "times"),
    [
        (0.01, "* * * * *"),
        (1.9, "* * * * *"),
        (10, "*/10 * * * *"),
        (59, "*/30 * * * *"),
        (60, "0 * * * *"),
        (180, "0 */3 * * *"),
        (300, "0 */4 * * *"),
        (5000, "0 0 * * *"),
    ],
)
def test_cron_gets_times_that_divide_the_hour_or_the_day(minutes: float, times: str) -> None:
    assert schedule(minutes) == times


def test_lines_for_cron_are_taken_out_by_their_mark_and_others_stay() -> None:
    own = "# mine\n0 1 * * * backup 100\\%\n"
    lines = entries(["/a b/kueue_restart_workers", "--once", "--quiet", "-c", "/50%"], "/50%", 60)
    first, second = lines.splitlines()
    command = r"'/a b/kueue_restart_workers' --once --quiet -c /50\% # kueue_restart_workers: /50\%"
    assert first == f"@reboot sleep 60; {command}"
    assert second == f"0 * * * * {command}"
    assert without(own + lines, "/50%") == own
    assert without(own + lines, "/other") == own + lines

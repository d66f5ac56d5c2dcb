"""Below the rows of `list-jobs`: what is not shown, and why jobs wait."""

from __future__ import annotations

from rich.cells import cell_len

from kueue.cli.render.glance import left_out_line, waits_line
from kueue.cli.render.jobs import job_lines
from kueue.wire.messages import JobCounts, JobView, LeftOut, Reason, WaitGroup

WIDE = 1000


def test_what_is_not_shown_is_counted_by_kind() -> None:
    left = LeftOut(running=389, failed=12, pending=40_211, finished=900, failed_before=3)
    assert left_out_line(left, WIDE) == (
        "not shown: 389 running, 12 failed within a day, 40211 pending, 900 succeeded or canceled, 3 failed before"
    )
    assert left_out_line(LeftOut(), WIDE) is None
    assert cell_len(left_out_line(left, 60) or "") <= 60


def test_the_reasons_are_grouped_and_name_those_that_have_what_is_waited_for() -> None:
    waits = (
        WaitGroup(2, Reason("resource", "genus 3/3"), (12, 17, 19)),
        WaitGroup(1, Reason("no_directory", "no worker sees /scratch/x (38 asked)")),
    )
    line = waits_line(waits, JobCounts(pending=3), WIDE, colour=False)
    assert line == "3 wait: 2 genus 3/3 (jobs 12 17 19), 1 no worker sees /scratch/x (38 asked)"
    assert waits_line((), JobCounts(), WIDE, colour=False) is None


def test_what_was_not_looked_at_one_by_one_is_about() -> None:
    group = WaitGroup(10**6, Reason("no_directory", "no worker sees /x (1 asked)"), about=True)
    other = WaitGroup(1, Reason("retry", "for their next try"))
    line = waits_line((group, other), JobCounts(pending=10**6, waiting=1), WIDE, colour=False)
    assert line == "1000001 wait: about 1000000 no worker sees /x (1 asked), 1 for their next try"


def test_the_server_cannot_write_to_the_terminal() -> None:
    group = WaitGroup(1, Reason("no_directory", "\x1b[2Jevil\n"))
    line = waits_line((group,), JobCounts(pending=1), 60, colour=False)
    assert line is not None
    assert line.isprintable()


def test_on_a_narrow_terminal_the_note_says_who_has_the_job() -> None:
    running = JobView(1, "running", ("./a",), "/d", 1, 1, worker="ralab04", run_seconds=12.0)
    failed = JobView(2, "failed", ("./a",), "/d", 1, 1, worker="ralab04", reason=Reason("exit", "exit 2"))
    lines = list(job_lines([running, failed], 0.0, 80, colour=False))
    assert lines[0].split() == ["id", "command", "directory", "state", "note"]
    assert lines[1].endswith("ralab04, 12 s")
    assert lines[2].endswith("exit 2")

"""Tables and pages are pure: what the server said, to lines that fit and that nobody can write into."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from kueue.cli.render.cluster import busy_style, resource_lines, worker_lines
from kueue.cli.render.jobs import PART_ROWS, count_line, detail_lines, job_lines
from kueue.cli.render.json_rows import iso, job_row
from kueue.cli.render.table import Cell, Column, shortened, table
from kueue.resources import Capacity
from kueue.wire.messages import (
    AttemptView,
    JobCounts,
    JobDetail,
    JobView,
    RawBytes,
    Reason,
    ResourcePage,
    ResourceView,
    Status,
    WorkerView,
)


def job(number: int = 17, **changes: object) -> JobView:
    values: dict[str, object] = {
        "id": number,
        "state": "failed",
        "command": ("./synthesize.sh", "--effort", "high", "core a"),
        "cwd": "/home/someone/projects/tapeout/run/number/17",
        "cpus": 4,
        "ram_mb": 16384,
        "resources": (("genus", 1), ("primelib", 4)),
        "worker": "ralab04-1f2e3d4c",
        "attempt": 1,
        "reason": Reason("exit", "exit 2"),
        "submitted_at": 1000.0,
        "started_at": 1010.0,
        "run_seconds": 192.0,
        **changes,
    }
    return JobView(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 200])
def test_queues_are_named_where_not_all_jobs_are_of_the_one_that_goes_without_saying(width: int) -> None:
    def titles(*queues: str, asked: str | None = None) -> list[str]:
        rows = [job(queue=queue) for queue in queues]
        return next(job_lines(rows, 2000.0, width, colour=False, queue=asked)).split()

    assert "queue" in titles("default", "night")
    assert "queue" in titles("night", "night")
    assert "queue" not in titles("default", "default")
    assert "queue" not in titles("night", "night", asked="night")


@pytest.mark.parametrize("width", [60, 72, 80, 100, 132, 200])
@pytest.mark.parametrize("name", ["", "synthesis of core a", "合成" * 10, "\x1b[2Jevil\n\r[bold]x[/bold]"])
def test_no_line_of_a_listing_is_wider_than_the_terminal(width: int, name: str) -> None:
    lines = list(
        job_lines([job(name=name), job(18, name=name, command=("x" * 500,))], 2000.0, width, colour=False)
    )
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_directories_lose_their_front_and_everything_else_its_end() -> None:
    line = list(job_lines([job()], 2000.0, 60, colour=False))[1]
    assert "…" in line
    assert "…mber/17 " in line
    assert "/home/someone" not in line
    assert " ./synthesize.s" in line
    assert "…mber/17 " in list(job_lines([job()], 2000.0, 120, colour=False))[1]


def test_nothing_is_shortened_where_there_is_room() -> None:
    line = list(job_lines([job()], 2000.0, 10**6, colour=False))[1]
    assert "…" not in line
    assert "/home/someone/projects/tapeout/run/number/17" in line
    assert "genus primelib=4" in line
    assert "3 m 12 s" in line


def test_columns_without_anything_in_them_are_left_out() -> None:
    plain = job(name="", resources=(), reason=None)
    assert "name" not in next(job_lines([plain], 0.0, 200, colour=False)).split()
    assert "resources" not in next(job_lines([plain], 0.0, 200, colour=False))


def test_states_have_colours_only_where_colours_are_wanted() -> None:
    assert "\x1b[31mfailed\x1b[0m" in list(job_lines([job()], 0.0, 200, colour=True))[1]
    assert "\x1b" not in "".join(job_lines([job()], 0.0, 200, colour=False))


def test_bytes_that_are_not_utf8_are_shown_and_do_no_harm() -> None:
    line = list(job_lines([job(command=("ls", RawBytes(b"caf\xe9")))], 0.0, 200, colour=False))[1]
    assert "\\xe9" in line


def test_the_footer_counts_and_looks_ahead() -> None:
    counts = JobCounts(pending=3, running=2, failed=1, average_run_seconds=90.0, eta_seconds=7200.0)
    line = count_line(counts, 4, colour=False)
    assert line == (
        "4 of 6 jobs: 3 pending, 2 running, 1 failed; average run time 1 m 30 s; the rest takes about 2 h 0 m"
    )
    assert count_line(JobCounts(), 0, colour=False) == "no jobs"


def test_a_page_of_details_has_everything_and_cannot_be_written_into() -> None:
    attempts = (AttemptView(1, "w1", "lost", 1.0, 2.0), AttemptView(2, "w2", "exited", 3.0, 4.0, exit_code=2))
    detail = JobDetail(
        0, job(attempts=attempts, attempt=2), stdout_tail=b"one\n\x1b[2Jtwo\xff\n", stderr_tail=b""
    )
    text = "\n".join(detail_lines(detail, 2000.0, None, colour=False))
    for wanted in ("17", "failed: exit 2", "16.0 GB", "genus primelib=4", "w1", "lost", "w2", "one"):
        assert wanted in text
    assert "\x1b" not in text


def test_a_wide_character_is_never_cut_in_two() -> None:
    assert cell_len(shortened("合成合成", 4)) <= 4
    assert cell_len(shortened("合成合成", 4, front=True)) <= 4
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcdef", 4, front=True) == "…def"
    assert shortened("abc", 1) == "…"


def test_columns_give_in_the_order_of_their_patience() -> None:
    columns = (Column("a", least=3, shrink=2), Column("b", least=3, shrink=1), Column("c"))
    rows = [[Cell("a" * 10), Cell("b" * 10), Cell("ccc")]]
    assert table(columns, rows, 20, colour=False)[1] == "aaaaaaaaaa  bb…  ccc".replace("bb…", "bb…")
    assert table(columns, rows, 18, colour=False)[1] == "aaaaaaa…  bb…  ccc"


def test_busy_is_green_then_yellow_then_red() -> None:
    assert [busy_style(share) for share in (0.0, 0.24, 0.25, 0.74, 0.75, 1.0)] == [
        "green",
        "green",
        "yellow",
        "yellow",
        "red",
        "red",
    ]


def test_workers_are_listed_with_and_without_a_status() -> None:
    status = Status(usable_cpus=4, usable_ram_mb=1000, load=(0.5, 1.0, 2.0), busy=0.8, uptime_seconds=90000)
    workers = (
        WorkerView(
            1, "w1", "h", "0.1", "connected", Capacity(4, 1000, 4), cpus_free=1, jobs=3, status=status
        ),
        WorkerView(2, "w2", "h", "0.1", "lost", Capacity(4, 1000, 4)),
    )
    lines = worker_lines(workers, 200, colour=False)
    assert "80%" in lines[1]
    assert "0.5 1.0 2.0" in lines[1]
    assert "lost" in lines[2]
    assert max(map(cell_len, worker_lines(workers, 100, colour=False))) <= 100


def test_a_resource_that_is_used_up_is_red() -> None:
    page = ResourcePage(0, (ResourceView("genus", 3, 3, (1, 2, 3)), ResourceView("free", 0, 1)), 3, 10)
    lines = resource_lines(page, 100, colour=True)
    assert "\x1b[31m3\x1b[0m" in lines[1]
    assert "1 2 3" in lines[1]
    assert "\x1b[31m" not in lines[2]
    assert "3 of at most 10" in lines[3]


def test_times_in_json_are_utc_with_milliseconds() -> None:
    assert iso(0.0) == "1970-01-01T00:00:00.000Z"
    assert iso(1763704247.4344) == "2025-11-21T05:50:47.434Z"
    assert iso(None) is None


def test_a_row_of_json_has_every_promised_key_and_can_be_encoded() -> None:
    promised = [
        "id",
        "name",
        "group",
        "queue",
        "state",
        "command",
        "cwd",
        "cpus",
        "ram_mb",
        "resources",
        "priority",
        "worker",
        "attempt",
        "attempts",
        "return_code",
        "signal",
        "reason",
        "submitted_at",
        "started_at",
        "finished_at",
        "run_seconds",
        "cpu_seconds",
        "peak_ram_mb",
        "stdout_path",
        "stderr_path",
        "submit_host",
    ]
    row = job_row(job(command=(RawBytes(b"\xff"),), worker=None))
    assert set(promised) <= set(row)
    assert json.loads(json.dumps(row))["command"] == ["\udcff"]


def test_of_a_long_table_no_more_than_a_part_is_kept() -> None:
    asked = 0

    def endless() -> Iterator[JobView]:
        nonlocal asked
        while True:
            asked += 1
            yield job(asked)

    lines = job_lines(endless(), 0.0, 200, colour=False)
    for printed in range(1, 5 * PART_ROWS):
        next(lines)
        assert asked <= printed + PART_ROWS


def test_later_parts_of_a_table_get_wider_and_have_titles_only_for_new_columns() -> None:
    rows = [job(number, name="") for number in range(1, 2 * PART_ROWS + 1)]
    rows += [job(10**6 + number, name="named") for number in range(PART_ROWS)]
    lines = list(job_lines(rows, 0.0, 200, colour=False))
    titles = [at for at, line in enumerate(lines) if line.lstrip().startswith("id ")]
    assert titles == [0, 2 * PART_ROWS + 1]
    assert "name" not in lines[0].split()
    assert "name" in lines[titles[1]].split()
    assert lines[-1].split()[:2] == [str(10**6 + PART_ROWS - 1), "named"]
    assert len(lines) == len(rows) + 2


def test_a_table_without_jobs_has_no_lines() -> None:
    assert list(job_lines([], 0.0, 200, colour=False)) == []

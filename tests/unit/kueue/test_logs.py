"""The daemons' logs: one line each, and never a reason to wait."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kueue.logs import TRACE, level_number, set_up_logging


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, raising = logging.getLogger(), logging.raiseExceptions
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_has_time_level_and_text() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream)
    log = logging.getLogger("kueue_server.engine")
    log.info("job %d starts", 17)
    log.warning("late")
    log.error("bad")
    log.debug("not shown")
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        f"{time} INFO  job 17 starts\n{time} WARN  late\n{time} ERROR bad\n", stream.getvalue()
    )


def test_what_peers_sent_can_t_break_or_colour_the_line() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream)
    logging.getLogger().info("worker %s", "\x1b[2J\n2026-01-01 00:00:00 INFO  forged")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_keeps_its_lines_but_not_the_controls_in_it() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream)
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logging.getLogger().exception("it broke")
    assert "\nTraceback (most recent call last):\n" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert "ValueError: \\e[2J" in stream.getvalue()


@pytest.mark.parametrize(("no_color", "colours"), [(None, True), ("1", False), ("", True)])
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None, colours: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    set_up_logging("info", stream)
    logging.getLogger().error("bad")
    logging.getLogger().info("fine")
    assert ("\x1b[31m" in stream.getvalue()) is colours
    assert stream.getvalue().endswith("INFO  fine\n")


def test_all_levels_of_the_configuration_are_known_and_trace_is_the_lowest() -> None:
    levels = [level_number(name) for name in ("TRACE", "debug", "info", "warn", "error")]
    assert levels == sorted(levels)
    assert level_number("warning") == level_number("warn")
    stream = io.StringIO()
    set_up_logging("trace", stream)
    logging.getLogger("kueue").log(TRACE, "every frame")
    assert stream.getvalue().endswith("TRACE every frame\n")


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up_logging("info", first)
    set_up_logging("error", second)
    logging.getLogger().error("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


STUCK = """
import logging, sys
from kueue.logs import set_up_logging
set_up_logging("info", sys.stderr)
for number in range(30_000):
    logging.getLogger().info("line %d of many that nobody reads for now", number)
print("goes on", flush=True)
sys.stdin.readline()
logging.getLogger().info("the last line")
"""


def test_a_pipe_or_terminal_that_takes_nothing_does_not_hold_the_program_up() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # 30,000 lines later; nobody has read one of them yet.
        assert process.stdout.readline() == "goes on\n"
        lines = [process.stderr.readline() for _ in range(5_000)]
        process.stdin.write("\n")
        process.stdin.close()
        lines += process.stderr.readlines()
    assert process.returncode == 0
    assert lines[0].endswith("INFO  line 0 of many that nobody reads for now\n")
    notes = [re.fullmatch(r"… (\d+) lines were dropped here\n", line) for line in lines]
    dropped = [int(note[1]) for note in notes if note is not None]
    assert dropped
    assert len(lines) - len(dropped) - 1 + sum(dropped) == 30_000
    assert lines[-1].endswith("INFO  the last line\n")


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", STUCK.replace("30_000", "100")],
        input="\n",
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stdout == "goes on\n"

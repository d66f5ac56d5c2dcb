"""Where the terminal matters: widths, colours, progress, through a pseudo-terminal."""

from __future__ import annotations

import re
import sys

import pexpect
import pyte

from tests.support.lab import Lab


def screen_of(lab: Lab, *arguments: str, columns: int, lines: int = 40, colour: bool = False) -> str:
    """What `kueue …` writes to a terminal of that size."""
    env = {**lab.env, "TERM": "xterm"}
    if colour:
        del env["NO_COLOR"]
    child = pexpect.spawn(
        sys.executable,
        ["-m", "kueue", *arguments],
        env=env,
        cwd=str(lab.work),
        dimensions=(lines, columns),
        timeout=30,
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    child.close()
    return str(child.before)


def test_a_listing_fits_the_terminal_and_directories_lose_their_front(lab: Lab) -> None:
    lab.submit("-w", "sh", "-c", "exit 0", "a-rather-long-argument-" * 8)
    for columns in (60, 80, 120):
        text = screen_of(lab, "list-jobs", columns=columns)
        assert all(len(line) <= columns for line in text.splitlines()), text
    assert re.search(r"…\S*work", screen_of(lab, "list-jobs", columns=80))


def test_only_as_many_jobs_as_fit_are_listed(lab: Lab) -> None:
    for _ in range(12):
        lab.submit("true")
    lab.ok("wait-job", *map(str, range(1, 13)))
    text = screen_of(lab, "list-jobs", columns=100, lines=10)
    assert len(text.splitlines()) <= 10
    assert "12 jobs" in text
    assert re.search(r"^12 ", text, re.MULTILINE)


def test_colours_are_there_on_a_terminal_and_nowhere_else(lab: Lab) -> None:
    lab.submit("-w", "true")
    assert "\x1b[32m" in screen_of(lab, "list-jobs", columns=100, colour=True)
    assert "\x1b[" not in screen_of(lab, "list-jobs", columns=100)
    assert "\x1b[" not in lab.ok("list-jobs")
    assert "\x1b[" in lab.ok("--color", "always", "list-jobs")


def test_the_name_of_a_job_cannot_write_to_the_terminal(lab: Lab) -> None:
    lab.submit("-w", "--name", "\x1b]0;evil\x07\x1b[2J[red]", "true")
    screen = pyte.Screen(100, 20)
    pyte.Stream(screen).feed(screen_of(lab, "list-jobs", columns=100, colour=True))
    shown = "\n".join(screen.display)
    assert "[red]" in shown
    assert "evil" in shown
    assert screen.title == ""


def test_waiting_for_several_jobs_shows_progress(lab: Lab) -> None:
    for _ in range(3):
        lab.submit("sleep", "0.5")
    text = screen_of(lab, "wait-job", "1", "2", "3", columns=80)
    assert "of 3 jobs have finished" in text

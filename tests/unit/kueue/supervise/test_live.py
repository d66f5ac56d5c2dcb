"""The supervisor's table on a terminal that has fewer lines than there are machines."""

from __future__ import annotations

import asyncio
import io
import sys

import pyte
import pytest

from kueue.supervise.live import LiveTable
from kueue.supervise.perform import Row
from tests.support.waiting import wait_for

LINES, COLUMNS = 24, 100
HOSTS = [f"rax{number:03d}" for number in range(60)]
LONG = (
    "logged in, but no answer within 20 s: its login shell, its home or the machine itself hangs, and so on"
)


class Terminal(io.StringIO):
    """What is written to it is seen on `screen`, and what has scrolled away is in `gone`."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=100_000)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text)
        return len(text)

    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def gone(self) -> list[str]:
        rows = self.screen.history.top
        return ["".join(row[column].data for column in range(COLUMNS)).rstrip() for row in rows]


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Instead of stdout. (As a fixture it would be undone before the test: capturing sets stdout for each phase.)"""
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    for name, value in (("LINES", LINES), ("COLUMNS", COLUMNS), ("TERM", "xterm")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return made


async def test_of_more_machines_than_lines_those_with_errors_are_seen_and_all_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)
    with LiveTable([(host, False) for host in HOSTS], colour=True) as table:
        for number, host in enumerate(HOSTS):
            error = LONG if number % 20 == 19 else ""
            done = "started in screen" if number % 10 == 8 else ""
            table.add(Row(host, reachable=True, error=error, done=done))
            if number % 15 == 0:
                table.say(f"{number}")
        table.say("57 of 60 hosts well")
        assert not terminal.gone(), "nothing scrolls away while it is kept up to date"
        shown = terminal.shown()
        assert [line.split()[0] for line in shown if "logged in" in line] == ["rax019", "rax039", "rax059"]
        assert sum("started in screen" in line for line in shown) == 6
        assert "57 of 60 hosts well" in shown[-1]
        left_out = 60 - sum(line.startswith("rax") for line in shown)
        assert f"{left_out} more" in shown[-2]
    whole = [line for line in [*terminal.gone(), *terminal.shown()] if line.startswith("rax")]
    assert [line.split()[0] for line in whole] == HOSTS


async def test_what_fits_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with LiveTable([(host, False) for host in HOSTS[:5]], colour=False) as table:
        table.add(Row(HOSTS[0], error=LONG))
        await asyncio.to_thread(
            wait_for, "the row is shown", lambda: "logged in" in "".join(terminal.shown())
        )
        shown = terminal.shown()
        assert "and so on" in " ".join(" ".join(shown).split()), "nothing is cut off"
        assert [line.split()[0] for line in shown if line.startswith("rax")] == HOSTS[:5]

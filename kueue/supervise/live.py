"""The supervisor's table on a terminal: all rows from the beginning, each filled in as it is ready.

A terminal can only be written over as far as it is high. So of a table that is longer, what matters most is kept up to
date, a line a row; the whole is written once, at the end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kueue.supervise.perform import Row
from kueue.supervise.table import TITLES, cells

SOON_SECONDS = 0.1


class LiveTable:
    """On stdout, while its context lasts. `labels`: of all rows, and whether each is the server's."""

    def __init__(self, labels: Sequence[tuple[str, bool]], colour: bool) -> None:
        self._rows: dict[tuple[str, bool], Row | None] = dict.fromkeys(labels)
        console = Console(file=sys.stdout, no_color=not colour, highlight=False)
        self._console = console
        self._caption = ""
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveTable:
        self._live.start()
        self._refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._refresh()
        self._live.stop()  # which shows all, however long

    def add(self, row: Row) -> None:
        """This row is ready. It is shown soon, with others: two hundred may come within a second or two."""
        self._rows[row.host, row.is_server] = row
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON_SECONDS, self._refresh)

    def say(self, caption: str) -> None:
        """A line below the table."""
        self._caption = caption
        self._refresh()

    def _refresh(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        height = self._console.size.height
        fits = self._is_over or len(self._rows) < height
        if fits:
            table = self._group(list(self._rows), cut=False)
            fits = self._is_over or len(self._console.render_lines(table)) <= height
        if not fits:
            table = self._group(self._foremost(height - 3), cut=True)
        self._live.update(table, refresh=True)

    def _group(self, labels: Sequence[tuple[str, bool]], *, cut: bool) -> Group:
        table = Table(*TITLES, box=None, pad_edge=False, header_style="bold")
        if cut:
            for column in table.columns[:-1]:
                column.no_wrap = True
        for label, is_server in labels:
            row = self._rows[label, is_server]
            if row is None:
                table.add_row(Text(f"{label} (server)" if is_server else label), Text("…", "dim"))
                continue
            texts = [Text(text) for text in cells(row)]
            texts[1].stylize("green" if row.reachable else "red")
            texts[5].stylize("yellow")
            texts[6].stylize("red" if row.error else "dim")
            if cut:
                texts[6].no_wrap, texts[6].overflow = True, "ellipsis"
            table.add_row(*texts)
        parts: list[Table | Text] = [table]
        if len(labels) < len(self._rows):
            parts.append(Text(f"… and {len(self._rows) - len(labels)} more", "dim"))
        if self._caption:
            parts.append(Text(self._caption, "dim", no_wrap=cut, overflow="ellipsis" if cut else None))
        return Group(*parts)

    def _foremost(self, most: int) -> list[tuple[str, bool]]:
        """So many rows, in their order: with errors, then those that were changed, then those there are."""

        def weight(label: tuple[str, bool]) -> int:
            row = self._rows[label]
            if row is None:
                return 3
            return 0 if row.error else 1 if row.done else 2

        chosen = set(sorted(self._rows, key=weight)[: max(1, most)])
        return [label for label in self._rows if label in chosen]

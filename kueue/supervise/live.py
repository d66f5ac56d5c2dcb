"""The supervisor's table on a terminal: all rows from the beginning, each filled in as it is ready."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kueue.supervise.perform import Row
from kueue.supervise.table import TITLES, cells


class LiveTable:
    """On stdout, while its context lasts. `labels`: of all rows, and whether each is the server's."""

    def __init__(self, labels: Sequence[tuple[str, bool]], colour: bool) -> None:
        self._rows: dict[tuple[str, bool], Row | None] = dict.fromkeys(labels)
        console = Console(file=sys.stdout, no_color=not colour, highlight=False)
        self._caption = ""
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="visible")

    def __enter__(self) -> LiveTable:
        self._live.start()
        self._refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refresh()
        self._live.stop()

    def add(self, row: Row) -> None:
        """This row is ready."""
        self._rows[row.host, row.is_server] = row
        self._refresh()

    def say(self, caption: str) -> None:
        """A line below the table."""
        self._caption = caption
        self._refresh()

    def _refresh(self) -> None:
        table = Table(*TITLES, box=None, pad_edge=False, header_style="bold")
        for (label, is_server), row in self._rows.items():
            if row is None:
                table.add_row(Text(f"{label} (server)" if is_server else label), Text("…", "dim"))
                continue
            texts = [Text(text) for text in cells(row)]
            texts[1].stylize("green" if row.reachable else "red")
            texts[5].stylize("yellow")
            texts[6].stylize("red" if row.error else "dim")
            table.add_row(*texts)
        whole = Group(table, Text(self._caption, "dim")) if self._caption else table
        self._live.update(whole, refresh=True)

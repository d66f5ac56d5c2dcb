"""Tables for a given width: pure, from cells to lines. Columns shrink in a given order, paths lose their front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

GAP = 2
MORE = "…"
STYLES = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "dim": "2",
    "bold": "1",
}


@dataclass(frozen=True)
class Column:
    """`least` is how narrow it may get; `shrink`: the lower, the sooner it gives (0 never); `front`: what is cut off
    is the front; `optional`: it may vanish when nothing else helps, those with less to `keep` them first."""

    title: str
    least: int = 4
    shrink: int = 0
    right: bool = False
    front: bool = False
    optional: bool = False
    keep: int = 0


@dataclass(frozen=True)
class Cell:
    """Safe text (see `kueue.text`) and the name of a style."""

    text: str
    style: str = ""


def styled(text: str, style: str, colour: bool) -> str:
    """With the style's colour, if colours are wanted."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if colour and style else text


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, *, colour: bool
) -> list[str]:
    """The lines, title first, none wider than `width` columns of the terminal if that is possible at all."""
    return Layout(columns, width, colour=colour).lines(rows)


class Layout:
    """A table that comes in parts, each laid out by what is in it and was before. Only the first part has the titles,
    and one in which a column appears that had been empty."""

    def __init__(self, columns: Sequence[Column], width: int, *, colour: bool) -> None:
        self._columns = columns
        self._width = width
        self._colour = colour
        self._wanted = [cell_len(column.title) for column in columns]
        self._used = [not column.optional for column in columns]
        self._shown: list[int] = []

    def lines(self, rows: Sequence[Sequence[Cell]]) -> list[str]:
        """The lines of a part."""
        for at in range(len(self._columns)):
            self._wanted[at] = max([self._wanted[at], *(cell_len(row[at].text) for row in rows)])
            # A column in which no row has anything says nothing.
            self._used[at] = self._used[at] or any(row[at].text for row in rows)
        shown, widths = self._fitting()
        columns = [self._columns[at] for at in shown]
        lines = []
        if shown != self._shown:
            self._shown = shown
            titles = [Cell(column.title, "bold") for column in columns]
            lines.append(_line(columns, titles, widths, self._colour))
        lines += [_line(columns, [row[at] for at in shown], widths, self._colour) for row in rows]
        return lines

    def _fitting(self) -> tuple[list[int], list[int]]:
        """Which columns there is room for, and how wide they are."""
        shown = [at for at, used in enumerate(self._used) if used]
        while True:
            columns = [self._columns[at] for at in shown]
            widths = _fit(columns, [self._wanted[at] for at in shown], self._width)
            droppable = [position for position, column in enumerate(columns) if column.optional]
            if sum(widths) + GAP * (len(widths) - 1) <= self._width or not droppable:
                return shown, widths
            del shown[min(reversed(droppable), key=lambda position: columns[position].keep)]


def _fit(columns: Sequence[Column], wanted: Sequence[int], width: int) -> list[int]:
    widths = list(wanted)
    over = sum(widths) + GAP * (len(widths) - 1) - width
    while over > 0:
        # The widest of those that may give, in the order of their patience.
        giving = [at for at, column in enumerate(columns) if column.shrink and widths[at] > column.least]
        if not giving:
            return widths
        soonest = min(columns[at].shrink for at in giving)
        group = [at for at in giving if columns[at].shrink == soonest]
        at = max(group, key=lambda one: widths[one])
        widths[at] -= 1
        over -= 1
    return widths


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int], colour: bool) -> str:
    parts = []
    for number, (column, cell, width) in enumerate(zip(columns, cells, widths, strict=True)):
        text = shortened(cell.text, width, front=column.front)
        padding = " " * max(0, width - cell_len(text))
        last = number == len(widths) - 1
        shown = styled(text, cell.style, colour)
        parts.append(padding + shown if column.right else shown if last else shown + padding)
    return (" " * GAP).join(parts).rstrip(" ")


def shortened(text: str, width: int, *, front: bool = False) -> str:
    """At most `width` columns; what is missing is marked."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return MORE[:width]
    if not front:
        return set_cell_size(text, width - 1).rstrip(" ") + MORE
    kept = text
    while cell_len(kept) > width - 1:
        kept = kept[1:]
    return MORE + kept

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
    wanted = [
        max([cell_len(column.title), *(cell_len(row[at].text) for row in rows)])
        for at, column in enumerate(columns)
    ]
    # A column in which no row has anything says nothing.
    shown = [
        at for at, column in enumerate(columns) if not column.optional or any(row[at].text for row in rows)
    ]
    widths = _fit([columns[at] for at in shown], [wanted[at] for at in shown], width)
    while sum(widths) + GAP * (len(widths) - 1) > width:
        droppable = [position for position, at in enumerate(shown) if columns[at].optional]
        if not droppable:
            break
        del shown[min(reversed(droppable), key=lambda position: columns[shown[position]].keep)]
        widths = _fit([columns[at] for at in shown], [wanted[at] for at in shown], width)
    lines = [
        _line(
            [columns[at] for at in shown], [Cell(columns[at].title, "bold") for at in shown], widths, colour
        )
    ]
    lines += [_line([columns[at] for at in shown], [row[at] for at in shown], widths, colour) for row in rows]
    return lines


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

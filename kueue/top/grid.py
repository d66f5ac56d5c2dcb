"""A table on the terminal: draws the rows that are in view and nothing else, keyboard and mouse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kueue.top.columns import Cell, Column, fitted, line
from kueue.top.rows import Rows

SCROLL_ROWS = 3


class Grid(Widget, can_focus=True):
    """`rows` is what there is, `cells` makes a row of one of them (given the width of the whole)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home,g", "home", show=False),
        Binding("end,G", "end", show=False),
        Binding("enter", "open", show=False),
    ]

    class Moved(Message):
        """Something else is in view, or another row is selected."""

    class Opened(Message):
        """The selected row is wanted."""

        def __init__(self, row: Any) -> None:
            super().__init__()
            self.row = row

    def __init__(
        self,
        rows: Rows[Any],
        columns: Sequence[Column],
        cells: Callable[[Any, int], list[Cell]],
        *,
        empty: Callable[[], str],
        id: str,
    ) -> None:
        super().__init__(id=id)
        self.rows = rows
        self._columns = columns
        self._cells = cells
        self._empty = empty

    # ---------------------------------------------------------------- drawing

    def render_line(self, y: int) -> Strip:
        """The titles, then the rows; the last column of the terminal shows where in the whole the view is."""
        width = max(1, self.size.width - 1)
        columns = fitted(self._columns, width)
        if y == 0:
            titles = [Cell(column.title) for column in self._columns]
            text = "".join(cell.text for cell in line(columns, titles))
            return _strip([Segment(text, Style(bold=True, underline=True))], self.size.width)
        at = self.rows.top + y - 1
        if at >= len(self.rows.items):
            text = self._empty() if y == 1 and not self.rows.items else ""
            return _strip([Segment(text, Style(dim=True)), *self._bar(y, width - len(text))], self.size.width)
        is_selected = at == self.rows.selected
        base = Style(reverse=is_selected and self.has_focus, bold=is_selected)
        pieces = line(columns, self._cells(self.rows.items[at], width))
        shown = Strip([Segment(cell.text, base + _style(cell.style)) for cell in pieces])
        return Strip.join([shown.adjust_cell_length(width, base), Strip(self._bar(y, 0))])

    def _bar(self, y: int, gap: int) -> list[Segment]:
        first, last = self.rows.place()
        height = max(1, self.size.height - 1)
        begin = min(height - 1, int(first * height))
        end = max(begin + 1, round(last * height))
        whole = first <= 0 and last >= 1
        mark = " " if whole else "█" if begin <= y - 1 < end else "│"
        return [Segment(" " * max(0, gap)), Segment(mark, Style(dim=True))]

    def refit(self) -> None:
        """Draw what there is now."""
        self.rows.resize(self.size.height - 1)
        self.refresh()

    # ---------------------------------------------------------------- keyboard and mouse

    def on_resize(self) -> None:
        """More or fewer rows fit."""
        self._moved()

    def _moved(self) -> None:
        self.refit()
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Select the next one, or the one before."""
        self.rows.move(by)
        self._moved()

    def action_page(self, by: int) -> None:
        """A screen further."""
        self.rows.page(by)
        self._moved()

    def action_home(self) -> None:
        """The first row."""
        self.rows.home()
        self._moved()

    def action_end(self) -> None:
        """The last row."""
        self.rows.end()
        self._moved()

    def action_open(self) -> None:
        """More about the selected row."""
        if self.rows.current is not None:
            self.post_message(self.Opened(self.rows.current))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self.rows.scroll(SCROLL_ROWS)
        self._moved()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self.rows.scroll(-SCROLL_ROWS)
        self._moved()

    def on_click(self, event: events.Click) -> None:
        """A row is selected, twice: opened; in the last column of the terminal, jumped to that place."""
        if event.x >= self.size.width - 1 and event.y > 0:
            self.rows.jump((event.y - 1) / max(1, self.size.height - 2))
            self._moved()
        elif 0 < event.y <= len(self.rows.visible()):
            self.rows.move(self.rows.top + event.y - 1 - self.rows.selected)
            self._moved()
            if event.chain == 2:
                self.action_open()


def _style(name: str) -> Style:
    if name == "dim":
        return Style(dim=True)
    return Style(bold=True) if name == "bold" else Style(color=name) if name else Style()


def _strip(segments: list[Segment], width: int) -> Strip:
    return Strip(segments).adjust_cell_length(width)

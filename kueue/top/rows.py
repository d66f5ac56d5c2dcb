"""Rows of which a part is seen: where the view begins, which one is selected. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Rows(Generic[T]):
    """A list with a view on it; `height` is how many of them are seen at a time."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self.top = 0
        self.selected = 0
        self.height = 1

    @property
    def current(self) -> T | None:
        """The selected one, if there is any."""
        return self.items[self.selected] if self.items else None

    def visible(self) -> list[T]:
        """Those that are seen."""
        return self.items[self.top : self.top + self.height]

    def resize(self, height: int) -> None:
        """So many rows fit from now on."""
        self.height = max(1, height)
        self._keep_in_view()

    def put(self, items: list[T]) -> None:
        """Other rows, the selection stays where it is."""
        self.items = items
        self._keep_in_view()

    def move(self, by: int) -> None:
        """Select another one, so many further on; the view follows."""
        self.selected += by
        self._keep_in_view()

    def scroll(self, by: int) -> None:
        """Move the view; the selection stays in it."""
        self.top = max(0, min(self.top + by, len(self.items) - self.height))
        self.selected = max(self.top, min(self.selected, self.top + self.height - 1, len(self.items) - 1))

    def page(self, by: int) -> None:
        """Screens further on."""
        step = by * max(1, self.height - 1)
        self.top = max(0, min(self.top + step, len(self.items) - self.height))
        self.move(step)

    def home(self) -> None:
        """The first one."""
        self.selected = 0
        self._keep_in_view()

    def end(self) -> None:
        """The last one."""
        self.selected = len(self.items) - 1
        self._keep_in_view()

    def jump(self, share: float) -> None:
        """The one at this share of the whole, 0…1."""
        self.selected = round(share * (len(self.items) - 1))
        self._keep_in_view()

    def place(self) -> tuple[float, float]:
        """Where the view begins and ends, as shares of the whole."""
        whole = max(1, len(self.items))
        return self.top / whole, min(1.0, (self.top + self.height) / whole)

    def _keep_in_view(self) -> None:
        self.selected = max(0, min(self.selected, len(self.items) - 1))
        self.top = max(0, min(self.top, len(self.items) - self.height))
        if self.selected < self.top:
            self.top = self.selected
        elif self.selected >= self.top + self.height:
            self.top = self.selected - self.height + 1

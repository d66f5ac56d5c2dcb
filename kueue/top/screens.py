"""What opens above the tables: a question, all about a job or worker, a log, the keys."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Log, Static

from kueue import AsyncClient
from kueue.cli.awaiting import tail_note
from kueue.cli.render.cluster import worker_detail_lines
from kueue.cli.render.jobs import detail_lines
from kueue.errors import KueueError
from kueue.operations import is_over
from kueue.text import visible, visible_block
from kueue.wire.messages import LogChunk

LOG_BYTES = 64 * 1024
"""Of the end of a log, where following it begins."""
LOG_LINES = 20_000
AWAY_STATES = ("waiting", "pending", "offered")


class Question(ModalScreen[bool]):
    """Yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The text, and two buttons for the mouse."""
        with Vertical(id="box"):
            yield Static(Text(self._text), id="question")
            with Horizontal(id="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button("Yes (y)", id="yes", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of them was."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """A key was."""
        self.dismiss(answer)


class Page(ModalScreen[None]):
    """Lines to read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Back")]

    def __init__(self, title: str, lines: str = "…") -> None:
        super().__init__()
        self._title = title
        self._lines = lines

    def compose(self) -> ComposeResult:
        """They may be more than fit."""
        with VerticalScroll(id="page") as page:
            page.border_title = Text(self._title).markup
            page.border_subtitle = "Esc: back"
            yield Static(Text.from_ansi(self._lines), id="lines")

    def show(self, lines: list[str]) -> None:
        """Other lines."""
        self.query_one("#lines", Static).update(Text.from_ansi("\n".join(lines)))


class JobPage(Page):
    """All about a job, anew whenever something happens to it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "log", "Log")]

    def __init__(self, client: AsyncClient, job: int, *, colour: bool) -> None:
        super().__init__(f"job {job}")
        self._client = client
        self._job = job
        self._colour = colour

    def on_mount(self) -> None:
        """Begin to look."""
        self.run_worker(self._look(), exit_on_error=False)

    async def _look(self) -> None:
        try:
            async with contextlib.aclosing(self._client.watch(self._job)) as changes:
                async for _ in changes:
                    detail = await self._client.detail(self._job)
                    self.show(detail_lines(detail, time.time(), None, colour=self._colour))
        except KueueError as error:
            self.show([visible(str(error))])

    def action_log(self) -> None:
        """Its log instead."""
        self.app.switch_screen(LogPage(self._client, self._job))


class WorkerPage(Page):
    """All about a worker, as it is now."""

    def __init__(self, client: AsyncClient, worker: int, name: str, *, colour: bool) -> None:
        super().__init__(visible(name))
        self._client = client
        self._worker = worker
        self._colour = colour

    def on_mount(self) -> None:
        """Ask."""
        self.run_worker(self._ask(), exit_on_error=False)

    async def _ask(self) -> None:
        try:
            self.show(worker_detail_lines(await self._client.worker(self._worker), colour=self._colour))
        except KueueError as error:
            self.show([visible(str(error))])


class LogPage(ModalScreen[None]):
    """What a job writes, as it does; from near its end if that is much."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "Back")]

    def __init__(self, client: AsyncClient, job: int) -> None:
        super().__init__()
        self._client = client
        self._job = job
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("surrogateescape") for stream in ("stdout", "stderr")}

    def compose(self) -> ComposeResult:
        """One log for both streams."""
        log = Log(max_lines=LOG_LINES, id="log")
        log.border_title = f"log of job {self._job}"
        log.border_subtitle = "Esc: back"
        yield log

    def on_mount(self) -> None:
        """Begin to follow."""
        self.query_one(Log).focus()
        self.run_worker(self._follow(), exit_on_error=False)

    def _say(self, text: str) -> None:
        self.query_one(Log).border_subtitle = f"{text}; Esc: back"

    async def _follow(self) -> None:
        followed = 0
        try:
            async with contextlib.aclosing(self._client.watch(self._job)) as changes:
                async for change in changes:
                    if change.state == "unknown":
                        self._say("there is no such job")
                        return
                    if change.attempt > followed and change.state not in AWAY_STATES:
                        followed = change.attempt
                        self._say(f"attempt {followed}")
                        await self._read(followed)
                    elif not followed:
                        self._say(f"{change.state}: it has not started")
                    if is_over(change):
                        self._say(change.state)
                        return
        except KueueError as error:
            self._say(visible(str(error)))

    async def _read(self, attempt: int) -> None:
        chunks: AsyncGenerator[tuple[str, LogChunk], None] = self._client.follow(
            self._job, attempt=attempt, start=-LOG_BYTES
        )
        log = self.query_one(Log)
        async with contextlib.aclosing(chunks) as parts:
            async for stream, chunk in parts:
                if chunk.tail and chunk.path != "null":
                    log.write_line(tail_note(self._job, chunk))
                log.write(visible_block(self._decoders[stream].decode(chunk.data)).expandtabs())
                await asyncio.sleep(0)  # keys come first, however much there is

"""The application: tabs, the line of the filter, the lines at the bottom, and what the keys do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widgets import Footer, Input, Static, TabbedContent, TabPane

from kueue import AsyncClient
from kueue.cli.render.table import Cell
from kueue.errors import KueueError, UsageError
from kueue.job import FINISHED
from kueue.text import visible
from kueue.top import columns
from kueue.top.board import Board
from kueue.top.feed import Feed
from kueue.top.filtering import selector_of
from kueue.top.grid import Grid
from kueue.top.rows import Rows
from kueue.top.screens import JobPage, LogPage, Page, Question, WorkerPage
from kueue.top.window import MOST_SORTED, ORDERS, Window
from kueue.wire.messages import JobView, QueueView, ResourceView, WorkerView

TYPING_SECONDS = 0.15
"""How long a filter stands still before it is asked for."""
KEYS = """\
 1 2 3 4    jobs, workers, licences, queues
 ↑ ↓ PgUp PgDn Home End    as everywhere; the mouse works, too
 Enter      all about the selected job or worker
 /          filter, as one types; Esc takes it away
            failed  group:NAME  queue:NAME  name:GLOB  worker:GLOB
            cwd:DIR  exit:N  since:2h  17  20-400  words of a command
 o          newest or oldest first
 s          sort by time, name, worker, state (of at most 10,000 jobs)
 l          follow the log of the selected job
 r          run it again, if it has finished
 k Delete   cancel it; one that runs is killed
 q          quit; jobs run on
"""
NAMES_FROM_WIDTH = 100


class TopApp(App[None]):
    """`kueue top` for one server."""

    TITLE = "kueue top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    Grid { height: 1fr; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #filter.shown { display: block; }
    #counts, #pace { height: 1; }
    Question { align: center middle; }
    #box { width: 60; max-width: 90%; height: auto; border: round $warning; padding: 0 1; background: $surface; }
    #buttons { height: 1; align: center middle; margin-top: 1; }
    #buttons Button { margin: 0 2; }
    #page, #log { border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("1", "tab('jobs')", "Jobs", show=False),
        Binding("2", "tab('workers')", "Workers", show=False),
        Binding("3", "tab('licences')", "Licences", show=False),
        Binding("4", "tab('queues')", "Queues", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("o", "turn_round", "Order"),
        Binding("s", "sort", "Sort"),
        Binding("l", "log", "Log"),
        Binding("r", "rerun", "Rerun"),
        Binding("k,delete", "cancel", "Cancel"),
        Binding("question_mark,f1", "keys", "Keys", key_display="?"),
        Binding("escape", "no_filter", show=False),
    ]

    def __init__(self, client: AsyncClient, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.board = Board()
        self.window = Window()
        self.feed = Feed(client, self.board, self.window, self._changed)
        self.workers_rows: Rows[WorkerView] = Rows()
        self.licences_rows: Rows[ResourceView] = Rows()
        self.queues_rows: Rows[QueueView] = Rows()
        self._client = client
        self._clock = clock
        self._typing: Timer | None = None
        self._fault = ""

    # ---------------------------------------------------------------- what there is

    def compose(self) -> ComposeResult:
        """Tabs, and three lines below them."""
        with TabbedContent(initial="jobs"):
            with TabPane("Jobs", id="jobs"):
                yield Grid(
                    self.window, columns.JOBS, self._job_cells, empty=self._why_no_jobs, id="jobs-grid"
                )
                yield Input(
                    placeholder="filter: failed group:NAME name:GLOB text …", id="filter", compact=True
                )
            with TabPane("Workers", id="workers"):
                yield Grid(
                    self.workers_rows,
                    columns.WORKERS,
                    lambda worker, _: columns.worker_cells(worker),
                    empty=lambda: "no workers",
                    id="workers-grid",
                )
            with TabPane("Licences", id="licences"):
                yield Grid(
                    self.licences_rows,
                    columns.LICENCES,
                    lambda licence, _: columns.licence_cells(licence),
                    empty=lambda: "no licences",
                    id="licences-grid",
                )
            with TabPane("Queues", id="queues"):
                yield Grid(
                    self.queues_rows,
                    columns.QUEUES,
                    lambda queue, _: columns.queue_cells(queue, self._clock()),
                    empty=lambda: "no queues",
                    id="queues-grid",
                )
        yield Static(id="counts")
        yield Static(id="pace")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to listen."""
        self.query_one("#jobs-grid", Grid).focus()
        self.run_worker(self.feed.run())
        self.set_interval(1.0, self._second)

    def _job_cells(self, job: JobView, width: int) -> list[Cell]:
        return columns.job_cells(job, self._clock(), has_names=width >= NAMES_FROM_WIDTH)

    def _why_no_jobs(self) -> str:
        if self.board.figures is None or self.window.need() is not None:
            return "…"
        return "no such jobs" if self.query_one("#filter", Input).value else "no jobs"

    def _second(self) -> None:
        self.board.sample()
        self._changed()

    def _changed(self) -> None:
        """Draw what there is now."""
        if not self.is_running or not self.screen_stack:
            return
        base = self.screen_stack[0]
        order = sorted(self.board.workers.values(), key=lambda worker: worker.name)
        self.workers_rows.put(order)
        self.licences_rows.put(list(self.board.resources))
        self.queues_rows.put(list(self.board.queues))
        for grid in base.query(Grid):
            grid.refit()
        width = self.size.width
        counts = Text(no_wrap=True, overflow="ellipsis")
        for number, cell in enumerate(self.board.counts()):
            counts.append("  " if number else "").append(cell.text, cell.style)
        base.query_one("#counts", Static).update(counts)
        base.query_one("#pace", Static).update(self._last_line(width))

    def _last_line(self, width: int) -> Text:
        if self.board.away is not None:
            return Text(visible(self.board.away), "bold red", no_wrap=True, overflow="ellipsis")
        if self._fault:
            return Text(visible(self._fault), "yellow", no_wrap=True, overflow="ellipsis")
        if self.window.order is not None:
            number = len(self.window.items)
            text = f"{number:,} jobs sorted by {self.window.order}, without new ones; s: the next, o: by id again"
            return Text(text, "cyan", no_wrap=True, overflow="ellipsis")
        searched = self.window.searched_up_to
        if searched is not None:
            return Text(f"searching; up to job {searched:,} so far", "dim")
        return Text(self.board.pace(width), no_wrap=True)

    # ---------------------------------------------------------------- tabs and rows

    def action_tab(self, name: str) -> None:
        """Show another table."""
        self.query_one(TabbedContent).active = name

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        """Another table is shown."""
        name = event.pane.id or "jobs"
        self.feed.look_closer(name != "jobs")
        if name != "jobs" or not self.query_one("#filter", Input).has_focus:
            self.query_one(f"#{name}-grid", Grid).focus()

    def on_grid_moved(self, event: Grid.Moved) -> None:
        """Others may have to be fetched, and listened to."""
        self.feed.moved()

    def on_grid_opened(self, event: Grid.Opened) -> None:
        """All about a row."""
        colour = not self.no_color
        if isinstance(event.row, JobView):
            self.push_screen(JobPage(self._client, event.row.id, colour=colour))
        elif isinstance(event.row, WorkerView):
            self.push_screen(WorkerPage(self._client, event.row.id, event.row.name, colour=colour))

    def action_keys(self) -> None:
        """What the keys do."""
        self.push_screen(Page("keys", KEYS))

    # ---------------------------------------------------------------- the filter

    def action_filter(self) -> None:
        """Begin to type one."""
        self.action_tab("jobs")
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def action_no_filter(self) -> None:
        """All jobs again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("shown")
        self.query_one("#jobs-grid", Grid).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """As one types."""
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_SECONDS, lambda: self._apply(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table."""
        self.query_one("#jobs-grid", Grid).focus()
        if not event.value.strip():
            self.action_no_filter()

    def _apply(self, text: str) -> None:
        try:
            selector = selector_of(text)
        except UsageError as error:
            self._fault = str(error)
        else:
            self._fault = ""
            if selector != self.window.selector:
                self.window.filter(selector)
                self.feed.moved()
        self._changed()

    def action_turn_round(self) -> None:
        """The other order."""
        self.window.turn_round()
        self.feed.moved()

    def action_sort(self) -> None:
        """By the next thing that jobs can be sorted by; after the last one by id again."""
        orders = [*ORDERS, None]
        order = orders[0 if self.window.order is None else orders.index(self.window.order) + 1]
        if order is None:
            self.window.by_id()
            self.feed.moved()
        else:
            self.run_worker(self._sort(order), exclusive=True, group="sort", exit_on_error=False)

    async def _sort(self, order: str) -> None:
        selector = self.window.selector
        try:
            jobs = await self.feed.all_jobs(MOST_SORTED)
        except KueueError as error:
            self.notify(visible(str(error)), severity="error", markup=False)
            return
        if jobs is None:
            text = f"only up to {MOST_SORTED:,} jobs are sorted by {order}; filter first (/)"
            self.notify(text, severity="warning")
        elif selector == self.window.selector:
            self.window.sort(jobs, order, self._clock())
            self.feed.moved()
            self._changed()

    # ---------------------------------------------------------------- what is done to a job

    def _current(self) -> JobView | None:
        return self.window.current if self.query_one(TabbedContent).active == "jobs" else None

    def action_log(self) -> None:
        """Follow the selected job's log."""
        job = self._current()
        if job is not None:
            self.push_screen(LogPage(self._client, job.id))

    def action_rerun(self) -> None:
        """Run the selected job again."""
        job = self._current()
        if job is None:
            return
        if job.state not in FINISHED:
            self.notify(f"job {job.id} has not finished", severity="warning")
            return

        async def rerun() -> str:
            new = await self._client.rerun(job.id)
            warnings = [warning.text for warning in new.warnings]
            ids = [str(first) for first, _ in new.ranges]
            return "; ".join([f"job {job.id} runs again as {' '.join(ids)}"] * bool(ids) + warnings)

        self._ask(f"Run job {job.id} again?\n{columns.named_command_of(job)}", rerun)

    def action_cancel(self) -> None:
        """Cancel the selected job."""
        job = self._current()
        if job is None:
            return
        if job.state in FINISHED:
            self.notify(f"job {job.id} has finished", severity="warning")
            return
        runs = job.state == "running"

        async def cancel() -> str:
            done = await self._client.cancel(job.id, kill=runs)
            if done.canceled:
                return f"job {job.id} was canceled"
            if done.running:
                return f"job {job.id} runs by now; cancel it again to kill it"
            return f"job {job.id} had finished"

        verb = (
            f"Kill job {job.id}, which runs on {visible(job.worker or '?')}?"
            if runs
            else f"Cancel job {job.id}?"
        )
        self._ask(f"{verb}\n{columns.named_command_of(job)}", cancel)

    def _ask(self, text: str, do: Callable[[], Awaitable[str]]) -> None:
        async def perform() -> None:
            try:
                self.notify(visible(await do()), markup=False)
            except KueueError as error:
                self.notify(visible(str(error)), severity="error", markup=False)

        def answered(answer: Any) -> None:
            if answer:
                self.run_worker(perform(), exit_on_error=False)

        self.push_screen(Question(text), answered)

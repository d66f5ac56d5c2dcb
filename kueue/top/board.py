"""What the server says of the whole, and how it went lately. Pure: the time is told."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from kueue.cli.render.jobs import STATE_STYLES
from kueue.durations import format_duration
from kueue.top.columns import Cell
from kueue.wire.messages import ClusterState, QueueView, ResourceView, WorkerView

HISTORY_SECONDS = 120
PACE_SECONDS = 10
"""Over which the pace is taken."""
BARS = "▁▂▃▄▅▆▇█"


class Board:
    """The whole as it was told last. `away`: why the server can't be asked, None while it can."""

    def __init__(self) -> None:
        self.figures: ClusterState | None = None
        self.workers: dict[int, WorkerView] = {}
        self.resources: tuple[ResourceView, ...] = ()
        self.queues: tuple[QueueView, ...] = ()
        self.away: str | None = None
        self._ended: deque[int] = deque(maxlen=HISTORY_SECONDS + 1)
        self._cores: deque[float] = deque(maxlen=HISTORY_SECONDS)

    def take(self, state: ClusterState) -> None:
        """The server tells of the whole."""
        self.figures = state
        self.away = None

    def begin_details(self) -> None:
        """All workers, resources and queues are about to be told."""
        self.workers = {}

    def take_details(self, state: ClusterState) -> None:
        """Workers, resources and queues that changed."""
        self.workers.update({worker.id: worker for worker in state.workers})
        for number in state.gone:
            self.workers.pop(number, None)
        if state.resources is not None:
            self.resources = state.resources
        if state.queues is not None:
            self.queues = state.queues

    def sample(self) -> None:
        """A second is over."""
        if self.figures is not None:
            if self._ended and self.figures.ended < self._ended[-1]:
                self._ended.clear()  # of a server that has been started since
            self._ended.append(self.figures.ended)
            self._cores.append(self.figures.cpus_used)

    def throughput(self) -> list[int]:
        """Attempts that ended in each of the last seconds."""
        ended = list(self._ended)
        return [later - earlier for earlier, later in pairwise(ended)]

    def cores(self) -> list[float]:
        """CPUs in use in each of the last seconds."""
        return list(self._cores)

    def counts(self) -> list[Cell]:
        """How many jobs are in which state."""
        if self.figures is None:
            return []
        found = [(state, getattr(self.figures.counts, state), style) for state, style in STATE_STYLES.items()]
        total = sum(number for _, number, _ in found)
        cells = [Cell(f"{total:,} job{'s' if total != 1 else ''}", "bold")]
        return cells + [Cell(f"{number:,} {state}", style) for state, number, style in found if number]

    def pace(self, width: int) -> str:
        """How fast it goes: two sparklines, as wide as there is room for, and what remains."""
        figures = self.figures
        if figures is None:
            return ""
        recent = self.throughput()[-PACE_SECONDS:]
        rate = sum(recent) / len(recent) if recent else 0.0
        texts = [f"{rate:.1f} jobs/s", f"{figures.cpus_used:.0f}/{figures.cpus} CPUs"]
        counts = figures.counts
        if (
            counts.waiting + counts.pending + counts.offered + counts.running
            and counts.eta_seconds is not None
        ):
            texts.append(f"{format_duration(counts.eta_seconds)} left")
        room = max(0, (width - sum(len(text) + 2 for text in texts)) // 2 - 2)
        room = min(room, HISTORY_SECONDS)
        texts[0] = f"{sparkline(self.throughput(), room)} {texts[0]}"
        texts[1] = f"{sparkline(self.cores(), room, figures.cpus)} {texts[1]}"
        return "  ".join(texts)


def sparkline(values: list[int] | list[float], width: int, most: float = 0.0) -> str:
    """The last values as bars, the newest on the right; `most` is what a full bar means at least."""
    shown = values[-width:] if width else []
    highest = max([most, *shown]) or 1
    bars = [
        BARS[min(len(BARS) - 1, int(value / highest * len(BARS)))] if value > 0 else " " for value in shown
    ]
    return "".join(bars).rjust(width)

"""What a client session may use of the server: the parts themselves, and the server's own verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kueue.wire.messages import Reason, ServerState
from kueue_server.core.core import Core
from kueue_server.core.events import Limits
from kueue_server.desk import Desk
from kueue_server.engine import Engine
from kueue_server.journal.interface import Journal
from kueue_server.reruns import Rerunning
from kueue_server.submissions import Submissions
from kueue_server.watch import WatchHub

if TYPE_CHECKING:
    from kueue_server.client_session import ClientSession


class Services(Protocol):
    """The server as its clients' sessions see it. `kueue_server.server.Server` is the one that runs."""

    core: Core
    engine: Engine
    journal: Journal
    submissions: Submissions
    reruns: Rerunning
    hub: WatchHub
    desk: Desk
    limits: Limits

    def server_state(self, now: float) -> ServerState:
        """Everything about the server itself (rid 0)."""
        ...

    def reload(self) -> tuple[str, ...] | Reason:
        """Reread the configuration; what changed, as lines for people, or why not."""
        ...

    def shut_down(self, workers: bool, kill: bool) -> tuple[str, ...]:
        """Begin to end; says what will become of the workers and jobs."""
        ...

    def client_closed(self, session: ClientSession) -> None:
        """A client's connection ended."""
        ...

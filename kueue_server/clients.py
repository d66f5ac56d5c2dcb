"""The clients that are connected, by where they come from.

Together they get a quarter of the descriptors that the server may have, so that none of them, whatever it opens, keeps
workers and other clients out. When there are more, the oldest of the busiest address has to go; a newcomer is never
refused. Who waits for jobs comes back by itself.
"""

from __future__ import annotations

import logging
import resource
from collections import OrderedDict
from collections.abc import Iterator

from kueue.wire.complaints import Complaints
from kueue_server.client_session import ClientSession

log = logging.getLogger(__name__)

UNLIMITED = 2**62


class Clients:
    """Sessions of clients. `most`: so many at a time (default: a quarter of the descriptors)."""

    def __init__(self, most: int | None = None) -> None:
        self._most = _share() if most is None else most
        self._by_address: dict[str, OrderedDict[ClientSession, None]] = {}
        self._count = 0
        self._complaints = Complaints(log)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ClientSession]:
        return iter([session for sessions in self._by_address.values() for session in sessions])

    def add(self, session: ClientSession) -> None:
        """Another one is connected."""
        if self._count >= self._most:
            busiest = max(self._by_address, key=lambda address: len(self._by_address[address]))
            self._complaints.add(
                f"{self._count} clients are connected, {len(self._by_address[busiest])} of them from {busiest}: "
                "the oldest of these is closed; with a higher limit of open files (ulimit -n) there may be more"
            )
            oldest = next(iter(self._by_address[busiest]))
            self.discard(oldest)
            oldest.link.abort()
        self._by_address.setdefault(session.link.address, OrderedDict())[session] = None
        self._count += 1

    def discard(self, session: ClientSession) -> None:
        """One has ended; nothing happens if it is not known."""
        sessions = self._by_address.get(session.link.address)
        if sessions is not None and session in sessions:
            del sessions[session]
            self._count -= 1
            if not sessions:
                del self._by_address[session.link.address]

    def close(self) -> None:
        """End all."""
        for session in self:
            session.link.close()
        self._complaints.close()


def _share() -> int:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return UNLIMITED if descriptors == resource.RLIM_INFINITY else max(1, descriptors // 4)

"""The clients that are connected, by where they come from.

Together they get three quarters of the descriptors that the server may have, so that none of them, whatever it opens,
keeps workers and clients of other machines out. When that is used up, those of the address with the most have none
more; a newcomer of another address takes the place of the newest of these.
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
    """Sessions of clients. `most`: so many at a time (default: three quarters of the descriptors)."""

    def __init__(self, most: int | None = None) -> None:
        self._most = _share() if most is None else most
        self._by_address: dict[str, OrderedDict[ClientSession, None]] = {}
        self._count = 0
        self._complaints = Complaints(log)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ClientSession]:
        return iter([session for sessions in self._by_address.values() for session in sessions])

    def add(self, session: ClientSession) -> bool:
        """Another one is connected. False: there is no room for it."""
        address = session.link.address
        if self._count >= self._most:
            busiest = max(self._by_address, key=lambda address: len(self._by_address[address]))
            many = len(self._by_address[busiest])
            self._complaints.add(
                f"{self._count} clients are connected, {many} of them from {busiest}, which gets none more; "
                "with a higher hard limit of open files (ulimit -Hn) there may be more"
            )
            if len(self._by_address.get(address, ())) >= many:
                return False
            newest = next(reversed(self._by_address[busiest]))
            self.discard(newest)
            newest.link.abort()
        self._by_address.setdefault(address, OrderedDict())[session] = None
        self._count += 1
        return True

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
    return UNLIMITED if descriptors == resource.RLIM_INFINITY else max(1, descriptors * 3 // 4)

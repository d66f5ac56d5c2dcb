"""Where a client finds its server, the secret it has, and how long it tries. No sockets: the clients connect.

The address is asked for anew before each attempt: a local server may have come up on another port meanwhile.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kueue.directories import HOST_ONLY_DIRECTORIES, Reach
from kueue.errors import AuthenticationError, KueueError, ServerUnreachableError, UsageError
from kueue.job_encoding import Encoder
from kueue.wire.dialing import DOUBTS, CutError, RefusedError
from kueue.wire.handshake import SECONDS

if TYPE_CHECKING:
    from kueue.client_config import ClientConfig
    from kueue.config import Config

DEFAULT_PATIENCE_SECONDS = 10.0
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.25)
"""Pauses between attempts; the last one repeats."""
FIRST_WAITING_SECONDS = 0.1
LONGEST_WAITING_SECONDS = 5.0
"""Pauses of those who wait for as long as it takes: they grow from one to the other."""
SHORTEST_ATTEMPT_SECONDS = 1.0
ENDED = "the local server was ended; kueue up starts it again, and its jobs go on"


class ServerAccess:
    """What a client needs to know of its server.

    Args:
        config: a `Config`, the path of one, or None for the usual one.
        address, secret: instead of the configuration's, both or neither.
        connect_timeout: seconds of trying to connect at first (None: as configured). After a connection was
            lost it is tried for as long as the configuration says, by those who wait for jobs for as long as
            they wait.

    Raises:
        ConfigError: the configuration is faulty. UsageError: only one of `address` and `secret`.
    """

    def __init__(
        self,
        config: Config | ClientConfig | str | os.PathLike[str] | None,
        address: tuple[str, int] | None,
        secret: str | None,
        connect_timeout: float | None,
    ) -> None:
        self._default_cpus, self._default_ram_mb = 1, 1024
        self._host_only: Sequence[str] = HOST_ONLY_DIRECTORIES
        self._reached = False
        self._was_announced = False
        self._away_since: float | None = None
        # Of a client's own, so that a thousand waiters of one client try together, and clients do not.
        self._stretch = random.uniform(0.75, 1.25)
        if (address is None) != (secret is None):
            raise UsageError("address and secret belong together")
        from kueue.address import LOCAL_NAMES, Whereabouts, announces_itself, is_local

        if address is not None and secret is not None:
            fixed = address
            self._is_alone = address[0] in LOCAL_NAMES
            self.resolve: Callable[[], tuple[str, int]] = lambda: fixed
            self._is_announced: Callable[[], bool] = lambda: False
            self.secret = secret
            self._later = DEFAULT_PATIENCE_SECONDS if connect_timeout is None else connect_timeout
            self._first = 0.0 if connect_timeout is None else connect_timeout
            return
        loaded = _loaded(config)
        self.resolve = Whereabouts(loaded)
        self._is_announced = lambda: announces_itself(loaded)
        self.secret = loaded.shared_secret
        self._default_cpus, self._default_ram_mb = loaded.job_default_cpus, loaded.job_default_ram_mb
        self._host_only, self._is_alone = loaded.host_only_places, is_local(loaded)
        self._later = float(loaded.connect_timeout_seconds)
        self._first = self._later if connect_timeout is None else connect_timeout

    def new_encoder(self) -> Encoder:
        """For jobs that are submitted in one call: environment and directory may be others at the next."""
        reach = Reach(self._host_only, is_alone=self._is_alone)
        return Encoder(self._default_cpus, self._default_ram_mb, reach)

    def dialing(self, on_retry: Callable[[str], None] | None, patience: float | None = None) -> Dialing:
        """One go at connecting. `patience`: seconds of it, if the server was there before (None: as
        configured)."""
        if not self._reached:
            return Dialing(self._first, on_retry)
        if patience is None:
            return Dialing(self._later, on_retry, again=True)
        return Waiting(patience, on_retry, self._later, self.was_ended, self.away_since, self._stretch)

    def reached(self) -> None:
        """There is a connection."""
        self._reached = True
        self._was_announced = self._is_announced()
        self._away_since = None

    def was_ended(self) -> bool:
        """Was it a local server, and has it said good-bye? One that was killed has not."""
        return self._was_announced and not self._is_announced()

    def away_since(self) -> tuple[float, bool]:
        """When (seconds since the epoch) the server was first found to be away, and whether that is now."""
        first = self._away_since is None
        if self._away_since is None:
            self._away_since = time.time()
        return self._away_since, first


def _loaded(config: Config | ClientConfig | str | os.PathLike[str] | None) -> ClientConfig:
    from kueue.client_config import ClientConfig, load_client_config

    if isinstance(config, ClientConfig):
        return config
    if config is None or isinstance(config, str | os.PathLike):
        return load_client_config(config)
    return config.for_clients


class Dialing:
    """One go at connecting, of as many attempts as there is time for.

    At first only a refused connection is worth another attempt: whatever else is wrong won't mend itself. But a server
    that died while it shook hands looks like one that refuses us, or is none: that is doubted `DOUBTS` times, even if
    there is no more time.
    Once there was a connection, a server that is being restarted may fail in other ways, too.
    """

    def __init__(
        self, seconds: float, on_retry: Callable[[str], None] | None, *, again: bool = False
    ) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._on_retry = on_retry
        self._passing = (ServerUnreachableError, AuthenticationError) if again else (RefusedError,)
        self._attempt = 0
        self._said = False
        self._doubted = 0

    @property
    def timeout(self) -> float:
        """Seconds for one attempt."""
        return min(SECONDS, self._seconds) if self._seconds > 0 else SECONDS

    def pause_after(self, error: KueueError) -> float:
        """Seconds to wait before the next attempt; raises `error` if there should be none."""
        left = self._deadline - time.monotonic()
        passing = isinstance(error, self._passing)
        doubted = not passing and self._is_doubted(error)
        if not doubted and (left <= 0 or not passing):
            raise error
        if passing and not self._said:
            self._said = True
            self._say(error)
        pause = self._pause()
        self._attempt += 1
        return pause if doubted else min(pause, left)

    def _is_doubted(self, error: KueueError) -> bool:
        self._doubted += 1
        return isinstance(error, CutError | AuthenticationError) and self._doubted <= DOUBTS

    def _say(self, error: KueueError) -> None:
        if self._on_retry is not None:
            self._on_retry(f"{error}; trying for {self._seconds:g} s")

    def _pause(self) -> float:
        return RETRY_SECONDS[min(self._attempt, len(RETRY_SECONDS) - 1)]


class Waiting(Dialing):
    """One go at connecting by somebody who waits for jobs anyway: for as long as that may take, ever more slowly.

    A server's machine takes minutes to reboot. A server that refuses us, or a local one that somebody has ended,
    is no such thing: it is asked only for as long as one that is being started anew may take.
    """

    def __init__(
        self,
        seconds: float,
        on_retry: Callable[[str], None] | None,
        hopeless_seconds: float,
        was_ended: Callable[[], bool],
        away_since: Callable[[], tuple[float, bool]],
        stretch: float,
    ) -> None:
        super().__init__(seconds, on_retry, again=True)
        self._hopeless_seconds = hopeless_seconds
        self._hopeless_since: float | None = None
        self._was_ended = was_ended
        self._away_since = away_since
        self._stretch = stretch

    @property
    def timeout(self) -> float:
        """Seconds for one attempt."""
        return min(SECONDS, max(SHORTEST_ATTEMPT_SECONDS, self._deadline - time.monotonic()))

    def pause_after(self, error: KueueError) -> float:
        """Seconds to wait before the next attempt; raises `error` if there should be none."""
        hopeless: KueueError | None = error if isinstance(error, AuthenticationError) else None
        if isinstance(error, ServerUnreachableError) and self._was_ended():
            hopeless = ServerUnreachableError(ENDED)
        if hopeless is None:
            self._hopeless_since = None
        else:
            now = time.monotonic()
            self._hopeless_since = self._hopeless_since or now
            if now - self._hopeless_since >= self._hopeless_seconds:
                raise hopeless
        return super().pause_after(error)

    def _say(self, error: KueueError) -> None:
        since, first = self._away_since()
        if first and self._on_retry is not None:
            clock = time.strftime("%H:%M:%S", time.localtime(since))
            self._on_retry(f"{error}; the server is away since {clock}, still waiting")

    def _pause(self) -> float:
        # The power is limited, or it would be too large for a float after some days.
        grown = FIRST_WAITING_SECONDS * 1.5 ** min(self._attempt, 20)
        return min(grown, LONGEST_WAITING_SECONDS) * self._stretch

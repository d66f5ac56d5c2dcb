"""Where a client finds its server, the secret it has, and how long it tries. No sockets: the clients connect.

The address is asked for anew before each attempt: a local server may have come up on another port meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kueue.errors import AuthenticationError, KueueError, ServerUnreachableError, UsageError
from kueue.wire.dialing import RefusedError
from kueue.wire.handshake import SECONDS

if TYPE_CHECKING:
    from kueue.config import Config

DEFAULT_PATIENCE_SECONDS = 10.0
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.25)
"""Pauses between attempts; the last one repeats."""


class ServerAccess:
    """What a client needs to know of its server.

    Args:
        config: a `Config`, the path of one, or None for the usual one.
        address, secret: instead of the configuration's, both or neither.
        connect_timeout: seconds of trying to connect at first (None: as configured). After a connection was
            lost it is tried for as long as the configuration says.

    Raises:
        ConfigError: the configuration is faulty. UsageError: only one of `address` and `secret`.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | None,
        address: tuple[str, int] | None,
        secret: str | None,
        connect_timeout: float | None,
    ) -> None:
        self.default_cpus, self.default_ram_mb = 1, 1024
        if (address is None) != (secret is None):
            raise UsageError("address and secret belong together")
        if address is not None and secret is not None:
            fixed = address
            self.resolve: Callable[[], tuple[str, int]] = lambda: fixed
            self.secret = secret
            self._later = DEFAULT_PATIENCE_SECONDS if connect_timeout is None else connect_timeout
            self._first = 0.0 if connect_timeout is None else connect_timeout
            return
        # Imported here: pydantic is most of what a client's start costs.
        from kueue.address import resolve_address
        from kueue.config import Config, load_config

        loaded = config if isinstance(config, Config) else load_config(config)
        self.resolve = lambda: resolve_address(loaded)
        self.secret = loaded.common_settings.shared_secret
        settings = loaded.client_settings
        self.default_cpus, self.default_ram_mb = settings.job_default_cpus, settings.job_default_ram_mb
        self._later = float(settings.connect_timeout_seconds)
        self._first = self._later if connect_timeout is None else connect_timeout

    def dialing(self, on_retry: Callable[[str], None] | None, *, again: bool) -> Dialing:
        """One go at connecting; `again`: there was a connection before."""
        return Dialing(self._later if again else self._first, on_retry, again=again)


class Dialing:
    """One go at connecting, of as many attempts as there is time for.

    At first only a refused connection is worth another attempt: whatever else is wrong won't mend itself.
    Once there was a connection, a server that is being restarted may fail in other ways, too.
    """

    def __init__(self, seconds: float, on_retry: Callable[[str], None] | None, *, again: bool) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._on_retry = on_retry
        self._passing = (ServerUnreachableError, AuthenticationError) if again else (RefusedError,)
        self._attempt = 0

    @property
    def timeout(self) -> float:
        """Seconds for one attempt."""
        return min(SECONDS, self._seconds) if self._seconds > 0 else SECONDS

    def pause_after(self, error: KueueError) -> float:
        """Seconds to wait before the next attempt; raises `error` if there should be none."""
        left = self._deadline - time.monotonic()
        if not isinstance(error, self._passing) or left <= 0:
            raise error
        if self._attempt == 0 and self._on_retry is not None:
            self._on_retry(f"{error}; trying for {self._seconds:g} s")
        pause = RETRY_SECONDS[min(self._attempt, len(RETRY_SECONDS) - 1)]
        self._attempt += 1
        return min(pause, left)

"""What the global options mean for a command: terminal, configuration, client; made when first needed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kueue.cli.terminal import Terminal
from kueue.client import Client
from kueue.errors import AuthenticationError, ServerUnreachableError

if TYPE_CHECKING:
    from kueue.client_config import ClientConfig


class Session:
    """One call of the command line."""

    def __init__(self, config_path: str | None, colour: str) -> None:
        self._config_path = config_path
        self.has_started_worker = False
        """A local worker was started for this call; it may not be connected yet."""
        self.terminal = Terminal(colour)

    @cached_property
    def config(self) -> ClientConfig:
        """The configuration, created at the very first use; one that is named must be there."""
        from kueue.client_config import load_client_config

        return load_client_config(self._config_path, create=self._config_path is None)

    def client(self, *, patience: float | None = None) -> Client:
        """A client, not connected yet."""
        return Client(
            self.config, connect_timeout=patience, on_retry=lambda text: self.terminal.say(f"kueue: {text}")
        )

    def connected(self) -> Client:
        """A connected client; says how to start a local server where none is.

        Raises:
            ServerUnreachableError: with that hint.
        """
        from kueue.address import elsewhere, is_local
        from kueue.owner import read_owner

        # Where a local server is started when it is needed, one that has said good-bye won't come by waiting;
        # one that was killed, or that somebody else looks after, may be on its way back.
        config = self.config
        absent = is_local(config) and config.autostart and read_owner(config.state_place) is None
        client = self.client(patience=0.0 if absent else None)
        try:
            client.connect()
        except (ServerUnreachableError, AuthenticationError) as error:
            if not absent:
                raise
            hint = elsewhere(config) or f"{error}; kueue up starts a local one"
            raise ServerUnreachableError(hint) from None
        return client

    def connected_or_started(self) -> Client:
        """As `connected`, but a local server and worker are started where the configuration allows it."""
        from kueue.address import may_start

        config = self.config
        if config.autostart and may_start(config):
            client = self.client(patience=0.0)
            try:
                client.connect()
            except (ServerUnreachableError, AuthenticationError):
                from kueue.local import ensure_running

                running = ensure_running(config, lambda text: None)
                self.has_started_worker = "worker" in running.started
                if running.started:
                    what = " and ".join(running.started)
                    self.terminal.say(
                        f"kueue: started a local {what} in the background; kueue down ends what was started"
                    )
            else:
                return client
            client = self.client()
            client.connect()
            return client
        return self.connected()

"""Where the server of a configuration is: `server_name` and `server_port`, or where the local server says.

With `server_name = "localhost"` the server may have taken another port, because somebody else's program has
the configured one; its owner file tells. Ask again before each attempt to connect: the answer changes when a
local server is started.
"""

from __future__ import annotations

import contextlib
import os

from kueue.client_config import ClientConfig, load_client_config
from kueue.errors import KueueError
from kueue.owner import Owner, lives_here, owner_is_alive, owner_path, read_owner
from kueue.text import visible

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_REACHED_BY_LOOPBACK = frozenset({"0.0.0.0", "127.0.0.1"})


def is_local(config: ClientConfig) -> bool:
    """Does the configuration mean the machine that the program runs on?"""
    return config.server_name.lower() in LOCAL_NAMES


def local_owner(config: ClientConfig) -> Owner | None:
    """The server of the state directory, if it is a process of this machine that lives."""
    if not is_local(config):
        return None
    owner = read_owner(config.state_place)
    return owner if owner is not None and lives_here(owner) else None


def announces_itself(config: ClientConfig) -> bool:
    """Is there a local server that has not said good-bye? It may have been killed."""
    return is_local(config) and read_owner(config.state_place) is not None


def resolve_address(config: ClientConfig) -> tuple[str, int]:
    """Host and port to connect to now."""
    owner = local_owner(config)
    if owner is None:
        return config.server_name, config.server_port
    return local_host(config, owner), owner.port


class Whereabouts:
    """Host and port of a configuration's server, asked for anew each time: the file may name another machine since
    it was read, because the server has moved. A file that can't be read, or is faulty, changes nothing."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._stamp = _stamp_of(config.path)

    def named(self) -> str:
        """`name:port` as the file had it when it was read last."""
        return f"{self._config.server_name}:{self._config.server_port}"

    def __call__(self) -> tuple[str, int]:
        """Where to connect to now."""
        stamp = _stamp_of(self._config.path)
        if stamp is not None and stamp != self._stamp:
            with contextlib.suppress(KueueError, OSError):
                found = load_client_config(self._config.path, create=False)
                self._config = ClientConfig(
                    **{
                        **vars(self._config),
                        "server_name": found.server_name,
                        "server_port": found.server_port,
                    }
                )
                self._stamp = stamp
        return resolve_address(self._config)


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def local_host(config: ClientConfig, owner: Owner) -> str:
    """The address at which a server of this machine is reached from this machine."""
    if owner.address:
        return owner.address
    # 127.0.0.1 rather than "localhost": on ::1 the same port may be a stranger's.
    reached = any(host in _REACHED_BY_LOOPBACK for host in config.bind_hosts)
    return "127.0.0.1" if reached else "localhost"


def elsewhere(config: ClientConfig) -> str | None:
    """If the local server runs on another machine of the same home, a line that says so; else None.

    It may have died there: that can't be seen from here, and the line says what to do then.
    """
    if not is_local(config):
        return None
    owner = read_owner(config.state_place)
    if owner is None or owner_is_alive(owner) is not None:
        return None
    host = visible(owner.host)
    return (
        f'the local server runs on {host}, not here; use it there, or set server_name = "{host}" and start'
        f" kueue_server there (if it runs no more, remove {owner_path(config.state_dir)})"
    )


def may_start(config: ClientConfig) -> bool:
    """Would a local server be started here: is it meant to be here, and not running?

    Worth a question before the first connection too: what listens on the configured port may be another
    user's server.
    """
    return is_local(config) and local_owner(config) is None and elsewhere(config) is None

"""Which programs are launched, and where: from the settings and the installation that the supervisor runs from."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

from kueue.config import Config, RestartWorkers
from kueue.config_file import default_config_path
from kueue.errors import ConfigError
from kueue.supervise.plan import STOP_SECONDS, Ours
from kueue.text import visible

WORKER = "kueue_worker"
SERVER = "kueue_server"


class Programs:
    """What the orders to all machines have in common.

    Raises:
        ConfigError: `worker_command` can't be taken apart.
    """

    def __init__(self, config: Config, settings: RestartWorkers) -> None:
        common = config.common_settings
        self.server_address = f"{common.server_name}:{common.server_port}"
        self.config_is_default = config.path == default_config_path() and "KUEUE_CONFIG" not in os.environ
        self.config_path = str(config.path)
        self._configured = [] if self.config_is_default else ["-c", self.config_path]
        self._settings = settings
        self._state_dir = os.environ.get("KUEUE_STATE_DIR") or common.state_dir
        grace = max(
            [config.worker_settings.job_kill_grace_seconds]
            + [host.job_kill_grace_seconds for host in config.worker_settings.hosts.values()]
        )
        self._stop_seconds = grace + STOP_SECONDS
        self._worker = _words(settings.worker_command) if settings.worker_command else _beside_us(WORKER)

    def ours(self, *, server_answers: bool, server_seconds: float) -> Ours:
        """What tells this cluster's workers from others, and how its server is."""
        return Ours(
            server=self.server_address,
            config=self.config_path,
            config_is_default=self.config_is_default,
            server_answers=server_answers,
            server_seconds=server_seconds,
            stop_seconds=self._stop_seconds,
        )

    def look(self, title: str = WORKER) -> dict[str, Any]:
        """Words of an order to look at sessions."""
        session = self._settings.session_name if title == WORKER else SERVER
        return {
            "session": session,
            "marker": f"{session} {self.server_address}",
            "state_dir": self._state_dir,
        }

    def launch(self, title: str, *, seconds: float, await_connection: bool) -> dict[str, Any]:
        """Words of an order to launch a program.

        Raises:
            ConfigError: it is the server, and `worker_command` does not tell which program that is.
        """
        return {
            **self.look(title),
            "title": title,
            "argv": [*(self._worker if title == WORKER else self._server()), *self._configured],
            "server": self.server_address,
            "seconds": seconds,
            "await_connection": await_connection,
        }

    def _server(self) -> list[str]:
        if not self._settings.worker_command:
            return _beside_us(SERVER)
        for number, word in enumerate(self._worker):
            folder, name = os.path.split(word)
            if name == WORKER:
                return [*self._worker[:number], os.path.join(folder, SERVER)]
        raise ConfigError(
            f'[restart_workers] worker_command = "{visible(self._settings.worker_command)}": names no {WORKER},'
            f" so it is not known how the server is started; restart_server = false leaves it alone"
        )


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f'[restart_workers] worker_command = "{visible(command)}": {error}') from None
    if not words:
        raise ConfigError("[restart_workers] worker_command names no program")
    return words


def _beside_us(program: str) -> list[str]:
    """The program of the same installation; on a shared home it is at the same place everywhere."""
    beside = os.path.join(os.path.dirname(sys.executable), program)
    return [beside] if os.access(beside, os.X_OK) else [sys.executable, "-m", program]

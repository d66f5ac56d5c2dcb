"""The configuration in use: loading it, the places that follow from it, and one line for whatever is wrong.

`config_model.py` has the keys, `config_values.py` what is allowed, `config_file.py` the file. A running
program is never ended by a faulty file: who reloads catches `ConfigError` and goes on as before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kueue.client_config import ClientConfig
from kueue.config_file import default_config_path, parse_toml, read_or_create, template_text
from kueue.config_model import (
    ClientSettings,
    CommonSettings,
    ConfigModel,
    RestartWorkers,
    ServerSettings,
    WorkerSettings,
)
from kueue.config_places import named_place, state_place
from kueue.errors import ConfigError
from kueue.text import visible

__all__ = [
    "ClientSettings",
    "CommonSettings",
    "Config",
    "RestartWorkers",
    "ServerSettings",
    "WorkerSettings",
    "default_config_path",
    "load_config",
    "template_text",
    "validated",
]


@dataclass(frozen=True)
class Config:
    """The configuration in use: the models, and the places that follow from them. Immutable.

    `path` is the file it came from; `created` whether this program has just written it.
    """

    model: ConfigModel
    path: Path
    created: bool = False

    @property
    def common_settings(self) -> CommonSettings:
        """What all programs share."""
        return self.model.common_settings

    @property
    def server_settings(self) -> ServerSettings:
        """The server's."""
        return self.model.server_settings

    @property
    def worker_settings(self) -> WorkerSettings:
        """The workers', without the overrides of hosts: see `worker_settings_for`."""
        return self.model.worker_settings

    @property
    def client_settings(self) -> ClientSettings:
        """The client's."""
        return self.model.client_settings

    @property
    def restart_workers(self) -> RestartWorkers | None:
        """The supervisor's; None if the section is missing."""
        return self.model.restart_workers

    @property
    def global_resources(self) -> dict[str, int]:
        """Licences and the like: name and amount."""
        return self.model.global_resources

    def worker_settings_for(self, hostname: str) -> WorkerSettings:
        """The worker's settings on a host, overrides applied."""
        return self.worker_settings.for_host(hostname)

    @property
    def state_dir(self) -> Path:
        """Where server and local programs keep what must last; absolute. `KUEUE_STATE_DIR` wins.

        Raises:
            ConfigError: no absolute path comes out of it (an unknown `~user`).
        """
        return Path(state_place(str(self.path), self.common_settings.state_dir))

    @property
    def for_clients(self) -> ClientConfig:
        """What a client needs of it."""
        common, client = self.common_settings, self.client_settings
        return ClientConfig(
            path=str(self.path),
            shared_secret=common.shared_secret,
            server_name=common.server_name,
            server_port=common.server_port,
            configured_state_dir=common.state_dir,
            bind_addresses=self.server_settings.bind_addresses,
            autostart=client.autostart,
            connect_timeout_seconds=client.connect_timeout_seconds,
            job_default_cpus=client.job_default_cpus,
            job_default_ram_mb=client.job_default_ram_mb,
            host_only_directories=client.host_only_directories,
        )

    def spool_dir_for(self, worker_name: str, hostname: str) -> Path:
        """Where a worker of this name keeps output and records on a host; absolute.

        Raises:
            ConfigError: no absolute path comes out of `spool_dir`, or the name can't be a directory's.
        """
        if worker_name in ("", ".", "..") or "/" in worker_name or "\0" in worker_name:
            raise ConfigError(
                f"{visible(worker_name)!r} can't be a worker's name: it is used as that of a directory"
            )
        wanted = self.worker_settings_for(hostname).spool_dir
        if wanted:
            return Path(named_place(str(self.path), "worker_settings", "spool_dir", wanted)) / worker_name
        if os.environ.get("KUEUE_STATE_DIR"):
            return self.state_dir / "spool" / worker_name
        return Path("/var/tmp") / f"kueue-{os.getuid()}" / worker_name


def load_config(path: str | os.PathLike[str] | None = None, *, create: bool = True) -> Config:
    """Read the configuration; with `create`, write it from the template if there is none.

    Args:
        path: the file; by default `KUEUE_CONFIG` or the one in the user's configuration directory.

    Raises:
        ConfigError: one line with file, section, key, value and what is allowed.
    """
    place, text, created = read_or_create(path, create)
    return Config(validated(parse_toml(text, place), place), place, created)


def validated(values: dict[str, Any], place: Path) -> ConfigModel:
    """The tables of the file `place` as models.

    Raises:
        ConfigError: one line, as `load_config`.
    """
    try:
        return ConfigModel.model_validate(values)
    except ValidationError as error:
        from kueue.config_faults import describe  # only faulty files pay for it

        raise ConfigError(f"{visible(str(place))}: {describe(error, values)}") from None

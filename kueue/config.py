"""The configuration in use: loading it, the places that follow from it, and one line for whatever is wrong.

`config_model.py` has the keys, `config_values.py` what is allowed, `config_file.py` the file. A running
program is never ended by a faulty file: who reloads catches `ConfigError` and goes on as before.
"""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from kueue.config_file import create_config, default_config_path, parse_toml, read_config, template_text
from kueue.config_model import (
    ClientSettings,
    CommonSettings,
    ConfigModel,
    RestartWorkers,
    ServerSettings,
    WorkerSettings,
)
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
        override = os.environ.get("KUEUE_STATE_DIR")
        if override:
            return Path(_expanded(override)).absolute()
        if self.common_settings.state_dir:
            return self._absolute("common_settings", "state_dir", self.common_settings.state_dir)
        return Path(platformdirs.user_state_path("kueue")).absolute()

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
            return self._absolute("worker_settings", "spool_dir", wanted) / worker_name
        if os.environ.get("KUEUE_STATE_DIR"):
            return self.state_dir / "spool" / worker_name
        return Path("/var/tmp") / f"kueue-{os.getuid()}" / worker_name

    def _absolute(self, section: str, key: str, text: str) -> Path:
        place = Path(_expanded(text))
        if not place.is_absolute():
            shown = visible(text)
            raise ConfigError(f'{visible(str(self.path))}: [{section}] {key} = "{shown}": no such user here')
        return place


def load_config(path: str | os.PathLike[str] | None = None, *, create: bool = True) -> Config:
    """Read the configuration; with `create`, write it from the template if there is none.

    Args:
        path: the file; by default `KUEUE_CONFIG` or the one in the user's configuration directory.

    Raises:
        ConfigError: one line with file, section, key, value and what is allowed.
    """
    place = Path(path).absolute() if path is not None else default_config_path()
    created = False
    try:
        text = read_config(place)
    except FileNotFoundError:
        if not create:
            raise ConfigError(f"{visible(str(place))}: no such file") from None
        created = create_config(place)
        try:
            text = read_config(place)  # ours, or that of a program that was quicker
        except FileNotFoundError:
            raise ConfigError(f"{visible(str(place))}: is a link to a file that does not exist") from None
    values = parse_toml(text, place)
    try:
        model = ConfigModel.model_validate(values)
    except ValidationError as error:
        from kueue.config_faults import describe  # only faulty files pay for it

        raise ConfigError(f"{visible(str(place))}: {describe(error, values)}") from None
    return Config(model, place, created)


def _expanded(text: str) -> str:
    text = text.replace("{host}", socket.gethostname().split(".", 1)[0])
    if "{user}" in text:
        text = text.replace("{user}", _user())
    return os.path.expanduser(text)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user that no database knows
        return str(os.getuid())

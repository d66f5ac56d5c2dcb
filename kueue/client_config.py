"""What a client needs of the configuration, and a quick way to read it: `kueue cmd` is called a thousand times.

The models of `config_model.py` say what is allowed. Loading them costs more than all else that a client does,
so a file is read here as far as it is plain: each key known, each value that a client uses of the simplest
form. For anything else, be it a fault, the models have the word.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kueue.amounts import MAX_AMOUNT
from kueue.config_places import named_place, state_place
from kueue.config_reading import absolute, default_config_place, read_config
from kueue.directories import HOST_ONLY_DIRECTORIES
from kueue.errors import ConfigError
from kueue.plain_toml import parse_plain

if TYPE_CHECKING:
    from pathlib import Path


class ClientConfig:
    """The client's view of the configuration file `path`; the keys are those of the file. Not to be changed.

    A plain class: a named tuple takes longer to make than all that is done with it.
    """

    def __init__(
        self,
        path: str,
        shared_secret: str,
        server_name: str = "localhost",
        server_port: int = 11236,
        configured_state_dir: str | None = None,
        bind_addresses: str = "0.0.0.0 [::]",
        autostart: bool = True,
        connect_timeout_seconds: float = 10,
        job_default_cpus: int = 1,
        job_default_ram_mb: int = 1024,
        host_only_directories: Sequence[str] = HOST_ONLY_DIRECTORIES,
    ) -> None:
        self.path = path
        self.shared_secret = shared_secret
        self.server_name = server_name
        self.server_port = server_port
        self.configured_state_dir = configured_state_dir
        self.bind_addresses = bind_addresses
        self.autostart = autostart
        self.connect_timeout_seconds = connect_timeout_seconds
        self.job_default_cpus = job_default_cpus
        self.job_default_ram_mb = job_default_ram_mb
        self.host_only_directories = tuple(host_only_directories)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientConfig) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClientConfig({self.path!r})"  # never the secret

    @property
    def state_place(self) -> str:
        """Where server and local programs keep what must last; absolute.

        Raises:
            ConfigError: no absolute path comes out of it.
        """
        return state_place(self.path, self.configured_state_dir)

    @property
    def state_dir(self) -> Path:
        """`state_place` as a `Path`."""
        from pathlib import Path

        return Path(self.state_place)

    @property
    def host_only_places(self) -> list[str]:
        """Directories that each machine has its own of; absolute.

        Raises:
            ConfigError: no absolute path comes out of one.
        """
        key = "host_only_directories"
        return [named_place(self.path, "client_settings", key, text) for text in self.host_only_directories]

    @property
    def bind_hosts(self) -> list[str]:
        """Where a server of this configuration listens, without brackets."""
        return [word.removeprefix("[").removesuffix("]") for word in self.bind_addresses.split()]


def load_client_config(path: str | os.PathLike[str] | None = None, *, create: bool = True) -> ClientConfig:
    """As `load_config`, for clients; quickly, if the file is plain.

    Values in sections that clients don't use are looked at by the programs that do.

    Raises:
        ConfigError: one line with file, section, key, value and what is allowed.
    """
    plain = plain_client_config(path)
    if plain is not None:
        return plain
    from kueue.config import load_config

    return load_config(path, create=create).for_clients


def plain_client_config(path: str | os.PathLike[str] | None = None) -> ClientConfig | None:
    """The client's view of a plain file; None if it is not plain, or not there."""
    place = absolute(os.fspath(path)) if path is not None else default_config_place()
    try:
        values = parse_plain(read_config(place))
    except (FileNotFoundError, ConfigError):
        return None
    return None if values is None else plainly(values, place)


HOST_KEYS = frozenset(
    {
        *("system_update_interval_seconds", "worker_max_parallel_jobs", "dynamic_check_free_resources"),
        *("dynamic_cpu_load_scale_factor", "resources", "spool_dir", "spool_max_mb", "spool_max_days"),
        *("job_nice", "job_oom_score_adj", "job_max_output_mb", "job_kill_grace_seconds"),
        "stop_jobs_when_alone_seconds",
    }
)
OTHERS_KEYS = {
    "server_settings": frozenset(
        {
            *("bind_addresses", "maintenance_interval_seconds", "worker_timeout_seconds"),
            *("job_offer_timeout_seconds", "global_max_parallel_jobs", "job_cleanup_after_minutes"),
            *("max_finished_jobs", "starvation_seconds", "worker_pause_after_failures"),
        }
    ),
    "worker_settings": HOST_KEYS | {"hosts"},
    "restart_workers": frozenset(
        {
            *("ssh_user", "hostnames", "sleep_minutes_before_recheck", "connect_timeout_seconds"),
            *("max_parallel_hosts", "ssh_port", "ssh_key_files", "known_hosts", "jump_host"),
            *("worker_command", "session_name", "backoff", "restart_server"),
        }
    ),
}
"""Keys of the sections of which a client uses nothing (but `bind_addresses`)."""

_IN_HOSTS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
_PLAIN_BIND = frozenset({"0.0.0.0", "127.0.0.1", "[::]", "[::1]"})


def _is_secret(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 24


def _is_host(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= 253:
        return False
    whole = _IN_HOSTS.issuperset(value) and value[0] not in "-." and value[-1] not in "-."
    return value in ("127.0.0.1", "::1") or (whole and not value.rsplit(".", 1)[-1].isdigit())


def _is_place(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith(("/", "~")) or "\0" in value:
        return False
    rest = value.replace("{host}", "").replace("{user}", "")
    return "{" not in rest and "}" not in rest


def _is_bind(value: Any) -> bool:
    return isinstance(value, str) and bool(value.split()) and _PLAIN_BIND.issuperset(value.split())


def _is_amount(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_AMOUNT


def _is_timeout(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 86400


CHECKS = {
    "common_settings": {
        "shared_secret": _is_secret,
        "previous_secrets": lambda value: isinstance(value, list) and all(map(_is_secret, value)),
        "server_name": _is_host,
        "server_port": lambda value: type(value) is int and 1 <= value <= 65535,
        "log_level": lambda value: value in ("trace", "debug", "info", "warn", "warning", "error"),
        "state_dir": _is_place,
    },
    "client_settings": {
        "job_default_cpus": _is_amount,
        "job_default_ram_mb": _is_amount,
        "autostart": lambda value: type(value) is bool,
        "connect_timeout_seconds": _is_timeout,
        "host_only_directories": lambda value: isinstance(value, list) and all(map(_is_place, value)),
    },
}
"""What is plain: never more than the models allow."""
_NOT_FOR_CLIENTS = ("previous_secrets", "log_level")
_OTHER_NAMES = {"state_dir": "configured_state_dir"}


def plainly(values: dict[str, Any], place: str) -> ClientConfig | None:
    """The tables `values` of the file `place`; None if the models must be asked."""
    if not all(type(section) is dict for section in values.values()):
        return None
    found: dict[str, Any] = {}
    for name, section in values.items():
        checks = CHECKS.get(name)
        if checks is not None:
            for key, value in section.items():
                check = checks.get(key)
                if check is None or not check(value):
                    return None
                if key not in _NOT_FOR_CLIENTS:
                    found[_OTHER_NAMES.get(key, key)] = value
        elif name != "global_resources" and not (name in OTHERS_KEYS and OTHERS_KEYS[name] >= section.keys()):
            return None
    hosts = values.get("worker_settings", {}).get("hosts", {})
    if type(hosts) is not dict or not all(
        type(host) is dict and HOST_KEYS.issuperset(host) for host in hosts.values()
    ):
        return None
    bind = values.get("server_settings", {}).get("bind_addresses")
    if bind is not None:
        if not _is_bind(bind):
            return None
        found["bind_addresses"] = bind
    return ClientConfig(path=place, **found) if "shared_secret" in found else None

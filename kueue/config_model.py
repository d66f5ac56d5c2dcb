"""The configuration as typed models: every section and key, its default, and what is allowed.

Pydantic walks the tables and finds unknown keys; what a value must be is said by the checks of
`config_values.py`, in words that name the key's own limits. Nothing here touches a file.
"""

from __future__ import annotations

import fnmatch
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kueue.amounts import MAX_AMOUNT
from kueue.config_values import (
    address_list,
    flag,
    host_name,
    host_names,
    level,
    non_empty,
    number,
    place,
    resource_name,
    secret,
    several,
    units,
    whole,
)
from kueue.directories import HOST_ONLY_DIRECTORIES

YEAR_SECONDS = 365 * 86400

Seconds = Annotated[float, number(0.1, YEAR_SECONDS)]
Count = Annotated[int, whole(1, MAX_AMOUNT)]
Amount = Annotated[int, whole(0, MAX_AMOUNT)]
Port = Annotated[int, whole(1, 65535)]
Flag = Annotated[bool, flag()]
Text = Annotated[str, non_empty()]
Texts = Annotated[tuple[str, ...], several(non_empty())]
Place = Annotated[str, place()]
HostName = Annotated[str, host_name()]
ResourceName = Annotated[str, resource_name()]
Units = Annotated[int | tuple[str, ...], units()]
"""An amount, or the names of the units."""


class Section(BaseModel):
    """A section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class CommonSettings(Section):
    """What all programs share."""

    shared_secret: Annotated[str, secret()] = Field(repr=False)
    previous_secrets: Annotated[tuple[str, ...], several(secret())] = Field(default=(), repr=False)
    server_name: HostName = "localhost"
    server_port: Port = 11236
    log_level: Annotated[str, level()] = "info"
    state_dir: Place | None = None


class ServerSettings(Section):
    """The server's."""

    bind_addresses: Annotated[str, address_list()] = "0.0.0.0 [::]"
    maintenance_interval_seconds: Seconds = 60
    worker_timeout_seconds: Annotated[float, number(1, YEAR_SECONDS)] = 600
    job_offer_timeout_seconds: Annotated[float, number(1, YEAR_SECONDS)] = 60
    global_max_parallel_jobs: Amount | None = None
    job_cleanup_after_minutes: Annotated[float, number(0, 100 * YEAR_SECONDS / 60)] = 40320
    max_finished_jobs: Amount = 1_000_000
    starvation_seconds: Annotated[float, number(0, YEAR_SECONDS)] = 60
    worker_pause_after_failures: Annotated[int, whole(0, 1000)] = 10

    @property
    def bind_hosts(self) -> list[str]:
        """The addresses, without brackets."""
        return [word.removeprefix("[").removesuffix("]") for word in self.bind_addresses.split()]


class HostSettings(Section):
    """What one host, or all, can set for a worker."""

    system_update_interval_seconds: Seconds = 60
    worker_max_parallel_jobs: Count | None = None
    dynamic_check_free_resources: Flag = True
    dynamic_cpu_load_scale_factor: Annotated[float, number(0, 1000)] = 1.0
    resources: dict[ResourceName, Units] = {}
    spool_dir: Place | None = None
    spool_max_mb: Count = 10_240
    spool_max_days: Annotated[float, number(0.01, 36500)] = 28
    job_nice: Annotated[int, whole(0, 19)] = 10
    job_oom_score_adj: Annotated[int, whole(0, 1000)] = 500
    job_max_output_mb: Amount = 10_240
    job_kill_grace_seconds: Annotated[float, number(0, 3600)] = 10
    stop_jobs_when_alone_seconds: Annotated[float, number(1, YEAR_SECONDS)] | None = None

    def own_resources(self) -> tuple[tuple[str, int], ...]:
        """Names and amounts of the worker's own resources, sorted."""
        return tuple(
            sorted((name, own if isinstance(own, int) else len(own)) for name, own in self.resources.items())
        )


class WorkerSettings(HostSettings):
    """A worker's; `hosts` may override any of them for hosts that match."""

    hosts: dict[Text, HostSettings] = {}

    def for_host(self, hostname: str) -> WorkerSettings:
        """These settings with the overrides of all patterns that match, in the order of the file.

        A pattern is compared with the host's name and with its first part, without regard to case. A key
        of an override replaces the whole value, `resources` too.
        """
        names = {hostname.lower(), hostname.lower().split(".", 1)[0]}
        changes: dict[str, object] = {}
        for pattern, override in self.hosts.items():
            if any(fnmatch.fnmatchcase(name, pattern.lower()) for name in names):
                changes.update({key: getattr(override, key) for key in override.model_fields_set})
        return self.model_copy(update=changes) if changes else self


class ClientSettings(Section):
    """The client's."""

    job_default_cpus: Amount = 1
    job_default_ram_mb: Amount = 1024
    autostart: Flag = True
    connect_timeout_seconds: Annotated[float, number(0, 86400)] = 10
    host_only_directories: Annotated[tuple[str, ...], several(place())] = HOST_ONLY_DIRECTORIES


class RestartWorkers(Section):
    """The supervisor's. `hostnames` are separated by spaces; `host_list` has them one by one."""

    ssh_user: Text | None = None
    hostnames: Annotated[str, host_names()] = ""
    sleep_minutes_before_recheck: Annotated[float, number(0.01, YEAR_SECONDS / 60)] = 60
    connect_timeout_seconds: Seconds = 10
    max_parallel_hosts: Count = 32
    ssh_port: Port | None = None
    ssh_key_files: Texts = ()
    known_hosts: Text | None = None
    jump_host: Text | None = None
    worker_command: Text | None = None
    session_name: Text = "kueue_worker"
    backoff: Annotated[float, number(1, 100)] = 2.0
    restart_server: Flag = True

    @property
    def host_list(self) -> list[str]:
        """The words of `hostnames`; patterns like `ralab[04-08]` are as they were written."""
        return self.hostnames.split()


def _tell_apart(config: ConfigModel) -> ConfigModel:
    settings = config.worker_settings
    places = {"worker_settings.resources": settings.resources}
    for pattern, override in settings.hosts.items():
        places[f'worker_settings.hosts."{pattern}".resources'] = override.resources
    for where, own in places.items():
        for name in own:
            if name in config.global_resources:
                raise ValueError(
                    f"[{where}] {name} is in [global_resources], too: it can be only one of them"
                )
    return config


class ConfigModel(Section):
    """The whole file."""

    common_settings: CommonSettings
    server_settings: ServerSettings = ServerSettings()
    worker_settings: WorkerSettings = WorkerSettings()
    client_settings: ClientSettings = ClientSettings()
    restart_workers: RestartWorkers | None = None
    global_resources: dict[ResourceName, Amount] = {}

    @model_validator(mode="after")
    def _resources_are_global_or_own(self) -> ConfigModel:
        return _tell_apart(self)

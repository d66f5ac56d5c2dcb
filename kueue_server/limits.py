"""From the configuration to what the core needs of it, and what a reload changed, in words."""

from __future__ import annotations

from kueue.config import Config
from kueue_server.core.events import Limits


def limits_of(config: Config) -> Limits:
    """The limits that the configuration gives."""
    settings = config.server_settings
    return Limits(
        global_resources=tuple(sorted(config.global_resources.items())),
        global_max_parallel_jobs=settings.global_max_parallel_jobs,
        worker_timeout_seconds=float(settings.worker_timeout_seconds),
        job_offer_timeout_seconds=float(settings.job_offer_timeout_seconds),
        job_cleanup_after_seconds=settings.job_cleanup_after_minutes * 60.0,
        max_finished_jobs=settings.max_finished_jobs,
        maintenance_interval_seconds=float(settings.maintenance_interval_seconds),
        starvation_seconds=float(settings.starvation_seconds),
        worker_pause_after_failures=settings.worker_pause_after_failures,
    )


def changes(old: Config, new: Config) -> tuple[str, ...]:
    """What is different between two configurations, of what a reload takes over; a line each."""
    lines = []
    before, after = old.global_resources, new.global_resources
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f"global resource {name} is gone (was {before[name]})")
        elif name not in before:
            lines.append(f"global resource {name} = {after[name]} is new")
        elif before[name] != after[name]:
            lines.append(f"global resource {name}: {before[name]} -> {after[name]}")
    reloaded = (
        "global_max_parallel_jobs",
        "worker_timeout_seconds",
        "job_offer_timeout_seconds",
        "job_cleanup_after_minutes",
        "max_finished_jobs",
        "maintenance_interval_seconds",
        "starvation_seconds",
        "worker_pause_after_failures",
    )
    for key in reloaded:
        was, now = getattr(old.server_settings, key), getattr(new.server_settings, key)
        if was != now:
            lines.append(f"{key}: {_shown(was)} -> {_shown(now)}")
    if old.common_settings.log_level != new.common_settings.log_level:
        lines.append(f"log_level: {old.common_settings.log_level} -> {new.common_settings.log_level}")
    if old.common_settings.shared_secret != new.common_settings.shared_secret:
        lines.append("shared_secret is another one; new connections need it")
    if old.common_settings.previous_secrets != new.common_settings.previous_secrets:
        lines.append("previous_secrets changed")
    fixed = [
        key
        for key, was, now in (
            ("bind_addresses", old.server_settings.bind_addresses, new.server_settings.bind_addresses),
            ("server_port", old.common_settings.server_port, new.common_settings.server_port),
            ("state_dir", old.state_dir, new.state_dir),
        )
        if was != now
    ]
    if fixed:
        lines.append(f"{', '.join(fixed)} changed too: that needs a restart of the server")
    return tuple(lines)


def _shown(value: object) -> str:
    return "no limit" if value is None else str(value)

"""Kueue: a robust, user-level, work-stealing, distributed task scheduler.

    import kueue

    with kueue.Client() as client:
        job = client.submit(["./sim", "in.dat"], cpus=4)
        print(client.wait(job).return_code)

Names are imported when they are first used: `import kueue` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kueue.async_client import AsyncClient
    from kueue.client import Client, as_completed
    from kueue.errors import (
        AuthenticationError,
        ConfigError,
        KueueError,
        RequestError,
        ServerUnreachableError,
        UnknownJobError,
        UnknownWorkerError,
        UsageError,
        VersionError,
        WaitTimeoutError,
    )
    from kueue.job_handle import Job
    from kueue.job_spec import JobSpec
    from kueue.wire.selector import Selector

_HOMES = {
    "AsyncClient": "kueue.async_client",
    "Client": "kueue.client",
    "as_completed": "kueue.client",
    "Job": "kueue.job_handle",
    "JobSpec": "kueue.job_spec",
    "Selector": "kueue.wire.selector",
    **dict.fromkeys(
        (
            "AuthenticationError",
            "ConfigError",
            "KueueError",
            "RequestError",
            "ServerUnreachableError",
            "UnknownJobError",
            "UnknownWorkerError",
            "UsageError",
            "VersionError",
            "WaitTimeoutError",
        ),
        "kueue.errors",
    ),
}

__all__ = [
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "ConfigError",
    "Job",
    "JobSpec",
    "KueueError",
    "RequestError",
    "Selector",
    "ServerUnreachableError",
    "UnknownJobError",
    "UnknownWorkerError",
    "UsageError",
    "VersionError",
    "WaitTimeoutError",
    "as_completed",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'kueue' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value

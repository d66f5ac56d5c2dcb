"""`kueue cmd` once it is parsed: submitted quickly where all is as usual, else by the client."""

from __future__ import annotations

import os
from typing import Any

from kueue import __version__, quick_submit
from kueue.address import is_local, may_start, resolve_address
from kueue.amounts import MAX_AMOUNT
from kueue.cli import options
from kueue.cli.quick import Submit
from kueue.cli.terminal import Terminal
from kueue.client_config import ClientConfig, plain_client_config
from kueue.directories import Reach, current_directory
from kueue.inherited import inherited_environment

MAX_PRIORITY = 1000
MAX_RETRY_DELAY = 366 * 86400


def run(given: Submit) -> int:
    """Submit, and wait if asked; the exit code.

    Raises:
        KueueError: it can't be submitted.
    """
    token = os.urandom(16).hex()
    if not (given.values["wait"] or given.values["follow"]):
        done = _submitted(given, token)
        if done is not None:
            terminal = Terminal(given.colour)
            for _, text in done.warnings:
                terminal.say(f"kueue: job {done.job}: {text}")
            terminal.print([str(done.job)])
            return 0
    from kueue.cli.session import Session
    from kueue.cli.submit import submit

    return submit(Session(given.config, given.colour), given.words, given.values, token)


def _submitted(given: Submit, token: str) -> quick_submit.Submitted | None:
    config = plain_client_config(given.config)
    if config is None or (config.autostart and may_start(config)):
        return None
    try:
        reach = Reach(config.host_only_places, is_alone=is_local(config))
        fields = spec_fields(given.words, given.values, config, reach)
        if fields is None:
            return None
        pairs = inherited_environment(
            os.environ, options.environment(given.values["env"]), clean=given.values["clean_env"]
        )
        context = quick_submit.context(pairs)
    except UnicodeEncodeError:
        return None
    job = quick_submit.spec(fields, context)
    done = quick_submit.submit(config, resolve_address(config), token, job, context, __version__)
    if done is not None:
        done.warnings += reach.warnings
    return done


def spec_fields(
    command: list[str], values: dict[str, Any], config: ClientConfig, reach: Reach
) -> dict[str, Any] | None:
    """The wire's `Spec` without what the environment gives; None for what the client has to look at.

    Raises:
        UsageError: an option's value can't be meant.
    """
    directory = current_directory()
    if values["cwd"] is not None:
        if not os.path.isdir(values["cwd"]):
            return None
        directory = os.path.normpath(os.path.join(directory, values["cwd"]))
    first = command[0]
    if not first.strip() or (len(command) == 1 and any(map(str.isspace, first))):
        return None
    limit, delay = options.duration(values["time_limit"]), options.duration(values["retry_delay"])
    in_range = (
        -MAX_PRIORITY <= values["priority"] <= MAX_PRIORITY
        and 0 <= values["max_restarts"] <= MAX_AMOUNT
        and 0 <= values["retries"] <= MAX_AMOUNT
        and not (values["retries"] and values["no_restart"])
        and (delay or 0.0) <= MAX_RETRY_DELAY
    )
    if not in_range or (limit is not None and limit <= 0):
        return None
    cpus, ram_mb = options.amount(values["cpus"], "--cpus", 1), options.ram_mb(values["ram"])
    shape = {
        "cpus": config.job_default_cpus if cpus is None else cpus,
        "ram_mb": config.job_default_ram_mb if ram_mb is None else ram_mb,
        "job_slots": options.amount(values["job_slots"], "--job-slots", 1),
        "resources": sorted(options.resources(values["resource"]).items()),
        "workers": values["worker"] or [*reach.workers(directory)],
        "not_workers": values["not_worker"],
    }
    group = os.environ.get("KUEUE_GROUP", "") if values["group"] is None else values["group"]
    optional = {
        "stdout": values["stdout"],
        "stderr": values["stderr"],
        "name": values["name"],
        "group": group,
        "queue": values["queue"],
        "priority": values["priority"],
        "max_restarts": values["max_restarts"],
        "restart": not values["no_restart"],
        "time_limit_seconds": limit,
        "max_retries": values["retries"],
        "retry_delay_seconds": delay or None,
        "retry_on": list(options.exit_codes(values["retry_on"])),
    }
    if values["after"] or values["after_any"] or values["on_failure"] is not None:
        from kueue.cli.following import wire_waits  # imported here: most jobs wait for no others

        optional["waits"] = wire_waits(values["after"], values["after_any"], values["on_failure"])
    texts = [*command, directory, *values["worker"], *values["not_worker"], *optional.values()]
    if any("\0" in text for text in texts if isinstance(text, str)):
        return None
    return {
        "payload": {"kind": "command", "argv": command},
        "cwd": directory,
        "volume": reach.volume(directory),
        "shape": {name: value for name, value in shape.items() if value != _DEFAULTS[name]},
        **{name: value for name, value in optional.items() if value != _DEFAULTS[name]},
    }


_DEFAULTS: dict[str, Any] = {
    "cpus": 1,
    "ram_mb": 1024,
    "job_slots": 1,
    "resources": [],
    "workers": [],
    "not_workers": [],
    "stdout": None,
    "stderr": None,
    "name": "",
    "group": "",
    "queue": "default",
    "priority": 0,
    "max_restarts": 5,
    "restart": True,
    "time_limit_seconds": None,
    "max_retries": 0,
    "retry_delay_seconds": None,
    "retry_on": [],
    "waits": None,
}
"""Of the wire: not sent."""

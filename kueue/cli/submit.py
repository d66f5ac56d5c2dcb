"""`kueue cmd`: submit a command, and wait for it or follow it if asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kueue.cli import options
from kueue.cli.outcome import OURS
from kueue.cli.session import Session
from kueue.errors import KueueError, UsageError
from kueue.job_spec import JobSpec
from kueue.wire.messages import Waits


def submit(session: Session, command: list[str], values: Mapping[str, Any], token: str | None = None) -> int:
    """Submit `command`; `values` are those of the options, by parameter; with a `token` that was used before it
    may be there already. Returns the exit code.

    Raises:
        KueueError: it can't be submitted, and is not to be waited for either.
    """
    wait, follow = values["wait"], values["follow"]
    try:
        if values["array"] is not None:
            from kueue.cli.array import submit_array  # imported here: most submits are of one job

            return submit_array(session, spec_of(command, values, many=True), values)
        if values["max_running"] is not None:
            raise UsageError("--max-running is for --array")
        if values["each_line"] is not None or values["from_json"] is not None:
            from kueue.cli.many_jobs import submit_many  # imported here: most submits are of one job

            return submit_many(session, spec_of(command, values, many=True), values)
        return _submit(session, spec_of(command, values), token, wait=wait, follow=follow)
    except KueueError as error:
        if not (wait or follow):
            raise
        session.terminal.say(f"kueue: {error}")
        return OURS


def spec_of(command: list[str], values: Mapping[str, Any], *, many: bool = False) -> JobSpec:
    """What the options ask for. With `many`, the command may be missing, and it and the directory have marks for what
    is in a file."""
    directory = values["cwd"] if many and "{" in (values["cwd"] or "") else _directory(values["cwd"])
    group = values["group"]
    waits = _waits(values)
    return JobSpec(
        command if many else _command(command, directory),
        cpus=options.amount(values["cpus"], "--cpus", 1),
        ram_mb=options.ram_mb(values["ram"]),
        job_slots=options.amount(values["job_slots"], "--job-slots", 1) or 1,
        resources=options.resources(values["resource"]),
        stdout=values["stdout"],
        stderr=values["stderr"],
        cwd=directory,
        name=values["name"],
        group=os.environ.get("KUEUE_GROUP", "") if group is None else group,
        queue=values["queue"],
        key=values.get("key") or "",
        priority=values["priority"],
        max_restarts=values["max_restarts"],
        restart=not values["no_restart"],
        retries=values["retries"],
        retry_delay=options.duration(values["retry_delay"]) or 0.0,
        retry_on=options.exit_codes(values["retry_on"]),
        time_limit=options.duration(values["time_limit"]),
        env=options.environment(values["env"]),
        clean_env=values["clean_env"],
        workers=tuple(values["worker"]),
        not_workers=tuple(values["not_worker"]),
        after=(*waits.after, *waits.select),
        after_any=(*waits.after_any, *waits.select_any),
        on_failure=waits.on_failure,
    )


def _waits(values: Mapping[str, Any]) -> Waits:
    from kueue.cli.following import wire_waits  # imported here: most jobs wait for no others

    found = wire_waits(values["after"], values["after_any"], values["on_failure"])
    return Waits() if found is None else msgspec.convert(found, Waits)


def _submit(session: Session, spec: JobSpec, token: str | None, *, wait: bool, follow: bool) -> int:
    with session.connected_or_started() as client:
        jobs = client.submit_many([spec]) if token is None else client.submit_once(spec, token)
        job = jobs[0].id
        for warning in jobs.warnings:
            if warning.code == "no_worker" and session.has_started_worker:
                continue  # it is on its way
            session.terminal.say(f"kueue: job {job}: {warning.text}")
        if not (wait or follow):
            session.terminal.print([str(job)])
            return 0
        from kueue.cli.awaiting import await_job  # imported here: most submits wait for nothing

        return await_job(session.terminal, client, job, follow=follow)


def _directory(wanted: str | None) -> str | None:
    if wanted is None:
        return None
    if not os.path.isdir(wanted):
        raise UsageError(f"-C {wanted}: no such directory")
    return wanted


def _command(words: list[str], directory: str | None) -> list[str]:
    if not words:
        raise UsageError("which command? e.g. kueue cmd ./script.sh; kueue cmd --help shows the options")
    if not words[0].strip():
        raise UsageError("the command is empty")
    if len(words) == 1 and any(character.isspace() for character in words[0]):
        place = Path(directory or ".") / words[0]
        if not place.exists():
            raise UsageError(f"{words[0]!r} is one word; for a line of shell: kueue cmd sh -c '{words[0]}'")
    return words

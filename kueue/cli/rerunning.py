"""`rerun-job` and `set-job`: old jobs once more, and changes to those that have not started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kueue.cli import options
from kueue.cli.command import Option, command, flag
from kueue.cli.selecting import CARE, EVERYTHING, IDS, SELECTOR, changing_selector_of, decide, many
from kueue.cli.session import Session
from kueue.errors import UsageError
from kueue.job import FINISHED, JobState
from kueue.job_spec import ChangeOptions
from kueue.wire.messages import Range

_CHANGEABLE = (JobState.WAITING, JobState.PENDING)

CHANGES = (
    Option("cpus", ("-c", "--cpus"), "text", "CPUs instead.", "N"),
    Option("ram", ("-r", "--ram-mb"), "text", "Memory instead: MB, or 512M, 16G.", "N"),
    Option("job_slots", ("-j", "--job-slots"), "text", "Job slots instead.", "N"),
    Option("resource", ("--resource",), "many", "That much of it; 0: none (many).", "NAME[=N]"),
    Option("priority", ("-p", "--priority"), "text", "-1000 to 1000 instead.", "N"),
    Option("time_limit", ("--time-limit",), "text", "90s, 15m, 2d instead; or none.", "DUR"),
    Option("new_group", ("--new-group",), "text", "Put them into this group.", "NAME"),
    Option("new_queue", ("--new-queue",), "text", "Put them into this queue.", "NAME"),
)
RELEASE = flag("release", ("--release",), "Let held jobs go.")


def changes_of(values: Mapping[str, Any]) -> ChangeOptions:
    """What the options say.

    Raises:
        UsageError: a value can't be meant.
    """
    found: ChangeOptions = {}
    if values["cpus"] is not None:
        found["cpus"] = options.amount(values["cpus"], "--cpus", 1)
    if values["ram"] is not None:
        found["ram_mb"] = options.ram_mb(values["ram"])
    if values["job_slots"] is not None:
        found["job_slots"] = options.amount(values["job_slots"], "--job-slots", 1)
    if values["resource"]:
        found["resources"] = options.resources(values["resource"], least=0)
    if values["priority"] is not None:
        try:
            found["priority"] = int(values["priority"])
        except ValueError:
            raise UsageError(f"--priority: {values['priority']!r} is no whole number") from None
    if values["time_limit"] is not None:
        none = values["time_limit"] == "none"
        found["time_limit"] = 0 if none else options.duration(values["time_limit"])
    if values["new_group"] is not None:
        found["group"] = values["new_group"]
    if values["new_queue"] is not None:
        found["queue"] = values["new_queue"]
    if values.get("release"):
        found["release"] = True
    return found


@command(IDS, *SELECTOR, *CHANGES, EVERYTHING, *CARE)
def rerun_job(session: Session, jobs: list[str], **values: Any) -> int:
    """Run finished jobs again, as new ones; prints their ids."""
    selector = changing_selector_of(jobs, values)
    changes = changes_of(values)
    with session.connected() as client:
        decided = decide(session, client, selector, values, "run again", FINISHED, has_ids=bool(jobs))
        if isinstance(decided, int):
            return decided
        found = client.rerun(decided, **changes)
    session.terminal.print(map(_shown, found.ranges))
    for warning in found.warnings:
        session.terminal.say(f"kueue: {warning.text}")
    return 0 if found.ranges else 1


def _shown(ids: Range) -> str:
    first, last = ids
    return str(first) if first == last else f"{first}-{last}"


@command(IDS, *SELECTOR, *CHANGES, RELEASE, EVERYTHING, *CARE)
def set_job(session: Session, jobs: list[str], **values: Any) -> int:
    """Change jobs that have not started."""
    selector = changing_selector_of(jobs, values)
    changes = changes_of(values)
    if not changes:
        raise UsageError(
            "what is to be changed? -p, -c, -r, -j, --resource, --time-limit, --new-group, --new-queue or --release"
        )
    with session.connected() as client:
        decided = decide(session, client, selector, values, "change", _CHANGEABLE, has_ids=bool(jobs))
        if isinstance(decided, int):
            return decided
        done = client.change(decided, **changes)
    parts = [f"{many(done.changed)} changed"]
    if done.started:
        parts.append(f"{done.started} had started or been handed over")
    if done.finished:
        parts.append(f"{done.finished} had finished")
    if done.refused and done.reason is not None:
        parts.append(f"{done.refused} can't be so: {done.reason.text}")
    session.terminal.say("; ".join(parts))
    return 0 if done.changed else 1

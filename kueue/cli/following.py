"""`--after` and `--after-any` of `kueue cmd`: which jobs to follow. Imports little: `kueue cmd` is in a hurry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kueue.cli import options
from kueue.errors import UsageError

if TYPE_CHECKING:
    from kueue.client import Client
    from kueue.job_spec import JobSpec

ON_FAILURE = ("cancel", "run", "hold")
HOW = "write ids and ranges, last, group=NAME or name=GLOB, with commas between"


def wire_waits(
    after: Iterable[str], after_any: Iterable[str], on_failure: str | None
) -> dict[str, Any] | None:
    """The wire's `Waits` as plain data; None if nothing is to be waited for.

    Raises:
        UsageError: it can't be meant.
    """
    found: dict[str, Any] = {}
    for flag, words, ids, selectors in (
        ("--after", after, "after", "select"),
        ("--after-any", after_any, "after_any", "select_any"),
    ):
        for word in words:
            _add(flag, word, found, ids, selectors)
    if on_failure is not None:
        if on_failure not in ON_FAILURE:
            raise UsageError(f"--on-failure {on_failure}: cancel, run or hold")
        if not found:
            raise UsageError("--on-failure is about jobs that are waited for: give --after, too")
        if on_failure != "cancel":
            found["on_failure"] = on_failure
    return found or None


def settled(client: Client, spec: JobSpec) -> JobSpec:
    """The same jobs for all that are made of one file, though it takes several requests: ids instead of selectors.

    Raises:
        UsageError: a selector names no job.
    """
    from msgspec.structs import replace

    changes: dict[str, Any] = {"after": _ids(client, spec.after), "after_any": _ids(client, spec.after_any)}
    return replace(spec, **changes)


def _ids(client: Client, wanted: Any) -> tuple[Any, ...]:
    from kueue.wire.selector import Selector
    from kueue.wire.waits import nobody

    found: list[Any] = []
    for one in wanted:
        if not isinstance(one, Selector):
            found.append(one)
            continue
        ranges = client.select(one).ranges
        if not ranges:
            raise UsageError(nobody(one))
        found += ranges
    return tuple(found)


def _add(flag: str, word: str, found: dict[str, Any], ids: str, selectors: str) -> None:
    for part in word.split(","):
        key, equals, value = part.partition("=")
        if part == "last":
            found.setdefault(selectors, []).append({"last": True})
        elif key in ("group", "name") and value:
            found.setdefault(selectors, []).append({key: value})
        elif equals or not part:
            raise UsageError(f"{flag} {word}: {HOW}")
        else:
            _append(found.setdefault(ids, []), _range(flag, part))


def _append(ranges: list[list[int]], fresh: list[int]) -> None:
    """As `kueue.predecessors` has it, so that both ways to submit send the same."""
    if ranges and ranges[-1][1] + 1 == fresh[0]:
        ranges[-1][1] = fresh[1]
    else:
        ranges.append(fresh)


def _range(flag: str, word: str) -> list[int]:
    first, dash, last = word.partition("-")
    try:
        found = [options.job_id(first), options.job_id(last if dash else first)]
    except UsageError:
        raise UsageError(f"{flag} {word}: {HOW}") from None
    if found[0] > found[1]:
        raise UsageError(f"{flag} {word}: a range begins with the lower number")
    return found

"""Values of options that need a second look. Imports little: `kueue cmd` is in a hurry."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kueue.amounts import MAX_AMOUNT
from kueue.errors import UsageError


def amount(text: str | None, name: str, least: int) -> int | None:
    """A whole number in range.

    Raises:
        UsageError: with the name of the option and the range.
    """
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is no whole number") from None
    if not least <= value <= MAX_AMOUNT:
        raise UsageError(f"{name}: {text} is out of range; {least} to {MAX_AMOUNT}")
    return value


def ram_mb(text: str | None) -> int | None:
    """`--ram-mb`: MB, or with a unit."""
    if text is None:
        return None
    from kueue.durations import parse_ram_mb

    return parse_ram_mb(text)


def duration(text: str | None) -> float | None:
    """A DUR."""
    if text is None:
        return None
    from kueue.durations import parse_duration

    return parse_duration(text)


def resources(words: Iterable[str], least: int = 1) -> dict[str, int]:
    """`NAME` and `NAME=N`, each name once.

    Raises:
        UsageError: not that.
    """
    found: dict[str, int] = {}
    for word in words:
        name, equals, number = word.partition("=")
        if not name or name in found:
            raise UsageError(f"--resource {word}: " + ("named twice" if name else "write NAME or NAME=N"))
        given = amount(number, f"--resource {name}", least) if equals else 1
        found[name] = 1 if given is None else given
    return found


def environment(words: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the caller's value.

    Raises:
        UsageError: the caller has no such variable.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word}: write NAME or NAME=VALUE")
        if not equals:
            if name not in os.environ:
                raise UsageError(f"--env {name}: there is no such variable here; write {name}=VALUE")
            value = os.environ[name]
        found[name] = value
    return found


def exit_codes(text: str | None) -> tuple[int, ...]:
    """`--retry-on`: codes and ranges of them, `1,75,100-110`.

    Raises:
        UsageError: not that, or none from 1 to 255.
    """
    found: set[int] = set()
    for word in () if text is None else text.split(","):
        first, dash, last = word.partition("-")
        low, high = (int(part) if part.isascii() and part.isdigit() else 0 for part in (first, last or first))
        if (dash and not last) or not 1 <= low <= high <= 255:
            raise UsageError(f"--retry-on {text}: write exit codes from 1 to 255, e.g. 1,75,100-110")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def job_id(text: str) -> int:
    """A job's id.

    Raises:
        UsageError: not a number.
    """
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**62:
        raise UsageError(f"{text!r} is no job id; kueue list-jobs shows them")
    return int(text)

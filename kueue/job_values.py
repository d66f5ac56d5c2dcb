"""Values that people give for jobs, checked one by one and made what the wire has.

All raise `UsageError` for what can't be meant, with a line that names it by `what`.
"""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Iterable

from kueue.amounts import MAX_AMOUNT
from kueue.errors import UsageError
from kueue.job_spec import Path
from kueue.wire.codec import to_os
from kueue.wire.messages import OsString, RawBytes

MAX_PRIORITY = 1000
MAX_KEY = 200
"""Characters; of a longer one its hash is sent."""
MAX_RETRY_DELAY = 366 * 86400
"""Seconds."""


def delay_of(delay: object) -> float | None:
    """Seconds to wait before another try; None: none."""
    seconds = delay.total_seconds() if isinstance(delay, datetime.timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UsageError(f"retry_delay must be seconds or a timedelta, not {delay!r}")
    if not 0 <= seconds <= MAX_RETRY_DELAY:
        raise UsageError(f"retry_delay = {seconds:g} s: must be 0 to {MAX_RETRY_DELAY}")
    return float(seconds) or None


def amount_of(what: str, value: object, least: int) -> int:
    """A whole number from `least` to the largest amount that there is."""
    return within(what, value, least, MAX_AMOUNT)


def within(what: str, value: object, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{what} must be a whole number, not {value!r}")
    if not least <= value <= most:
        raise UsageError(f"{what} = {value}: must be {least} to {most}")
    return value


def seconds_of(limit: object) -> float | None:
    """A time limit in seconds, if there is one."""
    if limit is None:
        return None
    seconds = limit.total_seconds() if isinstance(limit, datetime.timedelta) else limit
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UsageError(f"time_limit must be seconds or a timedelta, not {limit!r}")
    if not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(f"time_limit = {seconds:g} s: must be longer than nothing, and finite")
    return float(seconds)


def os_string(what: str, value: Path) -> OsString:
    """A word or a path, without a NUL byte."""
    try:
        found = to_os(value)
    except TypeError:
        raise UsageError(f"{what}: {value!r} is neither text nor a path") from None
    if (b"\0" in found.b64) if isinstance(found, RawBytes) else ("\0" in found):
        raise UsageError(f"{what}: a NUL byte can't be in {value!r}")
    return found


def text_of(what: str, value: object) -> str:
    """Text that is UTF-8."""
    if not isinstance(value, str):
        raise UsageError(f"the {what} must be text, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the {what} {value!r} is not UTF-8") from None
    return value


def key_of(value: object) -> str:
    """A key; a long one becomes its hash."""
    text = text_of("key", value)
    if len(text) <= MAX_KEY:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def globs_of(what: str, values: Iterable[str]) -> tuple[str, ...]:
    """Patterns of names."""
    if isinstance(values, str):
        raise UsageError(f'{what} is a list of patterns, e.g. ["{values}"]')
    return tuple([text_of(f"pattern in {what}", value) for value in values])

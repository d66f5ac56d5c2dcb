"""Durations and amounts of memory, as people type them and as people read them. Text and numbers only."""

from __future__ import annotations

import math
import re

from kueue.amounts import MAX_AMOUNT
from kueue.errors import UsageError
from kueue.text import visible

MAX_SECONDS = 100 * 365 * 86400
"""Longest duration that can be meant, a hundred years; longer ones are slips of the finger."""
_LONGEST_TEXT = 40
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_WORDS = re.compile(rf"(?:{_NUMBER}d)?\s*(?:{_NUMBER}h)?\s*(?:{_NUMBER}m)?\s*(?:{_NUMBER}s)?")
_CLOCK = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-9]{2}):([0-9]{2})")
_BARE = re.compile(_NUMBER)
_TWO_PARTS = re.compile(r"[0-9]+:[0-9]{2}")
_RAM = re.compile(rf"{_NUMBER}\s*(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)
_RAM_MB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `15m`, `1h30m`, `2d`, `HH:MM:SS`, `D-HH:MM:SS`; may be 0.

    Raises:
        UsageError: anything else; a bare number is refused with both readings shown.
    """
    word = text.strip().lower()
    if not word or len(word) > _LONGEST_TEXT:
        raise _no_duration(text)
    if _BARE.fullmatch(word):
        raise UsageError(f"a duration of {word} what? {word}s is seconds, {word}m is minutes")
    if _TWO_PARTS.fullmatch(word):
        raise UsageError(
            f"a duration of {word} what? {word}:00 is hours and minutes, 00:{word} is minutes and seconds"
        )
    clock = _CLOCK.fullmatch(word)
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        if minutes > 59 or seconds > 59:
            raise UsageError(f"not a time: {visible(text)!r}; minutes and seconds end at 59")
        if clock[1] is not None and hours > 23:
            raise UsageError(f"not a time: {visible(text)!r}; after days, hours end at 23")
        return _in_range(days * 86400.0 + hours * 3600 + minutes * 60 + seconds, text)
    words = _WORDS.fullmatch(word)
    if words is None:
        raise _no_duration(text)
    amounts = (float(part or 0) for part in words.groups())
    total = sum(amount * unit for amount, unit in zip(amounts, (86400, 3600, 60, 1), strict=True))
    return _in_range(total, text)


def _no_duration(text: str) -> UsageError:
    shown = visible(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
    return UsageError(f"not a duration: {shown!r}; write 90s, 15m, 1h30m, 2d or [D-]HH:MM:SS")


def _in_range(seconds: float, text: str) -> float:
    if seconds > MAX_SECONDS:
        raise UsageError(f"{visible(text)!r} is too long; the longest duration is {MAX_SECONDS // 86400}d")
    return seconds


def format_duration(seconds: float) -> str:
    """For people: `0.2 s`, `12 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`.

    Less than nothing (clocks of two machines differ) is shown as nothing.
    """
    if math.isnan(seconds) or seconds < 0:
        seconds = 0.0
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if math.isinf(seconds):
        return "forever"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def parse_ram_mb(text: str) -> int:
    """MB of `2048`, `512M`, `16G`, `1.5G`; a bare number is MB; rounded up.

    Raises:
        UsageError: anything else, or out of range.
    """
    word = text.strip()
    match = _RAM.fullmatch(word) if len(word) <= _LONGEST_TEXT else None
    if match is None:
        shown = visible(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
        raise UsageError(f"not an amount of memory: {shown!r}; write 2048 (MB), 512M or 16G")
    amount = math.ceil(float(match[1]) * _RAM_MB[(match[2] or "M").upper()])
    if not 0 < amount <= MAX_AMOUNT:
        raise UsageError(f"{word} of memory is out of range; 1M to {MAX_AMOUNT}M")
    return amount


def format_ram(mb: float) -> str:
    """For people: `512 MB`, `21.3 GB`."""
    if mb < 1023.5:
        return f"{mb:.0f} MB"
    return f"{mb / 1024:.1f} GB"

"""When a machine is looked at next: as configured while all is well, ever later while it fails. Pure."""

from __future__ import annotations

LONGEST_SECONDS = 86400.0
"""A failing machine is looked at once a day at least, if others are looked at more often than that."""
JITTER = 0.1


def pause_seconds(interval_seconds: float, backoff: float, failures: int, chance: float) -> float:
    """Until the next look after so many failures in a row. `chance`, from 0 to 1, spreads failing machines.

    The first failure changes nothing; each further one makes the pause `backoff` times as long.
    """
    if failures == 0:
        return interval_seconds
    longest = max(interval_seconds, LONGEST_SECONDS)
    pause = interval_seconds
    for _ in range(failures - 1):
        pause *= backoff
        if pause >= longest or backoff == 1:
            break
    return min(pause, longest) * (1 + JITTER * (2 * chance - 1))

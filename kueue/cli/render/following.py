"""What a job waits for, in the words of `show-job`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kueue.wire.messages import JobDetail, Range

MOST_RANGES = 12
_ON_FAILURE = {
    "cancel": "canceled if one fails",
    "run": "runs all the same if one fails",
    "hold": "held if one fails",
}


def following_fields(detail: JobDetail) -> list[tuple[str, str]]:
    """Lines with their names; none of a job that waits for no others."""
    waits = detail.waits
    if waits is None:
        return []
    fields = []
    if waits.after:
        what = _ON_FAILURE.get(waits.on_failure, waits.on_failure)
        fields.append(("after", f"{shown_ranges(waits.after)}; {what}"))
    if waits.after_any:
        fields.append(("after any", shown_ranges(waits.after_any)))
    if detail.awaited_ranges:
        number = detail.job.awaited
        fields.append(
            ("waits for", f"{number} job{'s' if number != 1 else ''}: {shown_ranges(detail.awaited_ranges)}")
        )
    return fields


def shown_ranges(ranges: Sequence[Range]) -> str:
    """`17 20-400`, cut where they are many."""
    words = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:MOST_RANGES]]
    return " ".join(words) + (" …" if len(ranges) > MOST_RANGES else "")

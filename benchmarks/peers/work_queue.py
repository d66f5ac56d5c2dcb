"""Work Queue and TaskVine: they are packaged for conda only, which is not asked here."""

from __future__ import annotations

NEEDS_A_CLUSTER = True


def available() -> str | None:
    """Why not."""
    return "packaged for conda only"

"""The limit of whatever is countable."""

from __future__ import annotations

MAX_AMOUNT = 2**31 - 1
"""Largest amount of anything countable that Kueue accepts (CPUs, MB, slots, units of a resource)."""

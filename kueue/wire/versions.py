"""The protocol versions that this program speaks."""

from __future__ import annotations

PROTOCOL_MIN = 1
"""Oldest: our own and the one before."""
PROTOCOL_MAX = 1

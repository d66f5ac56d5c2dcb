"""Which peers take part in a question, and why others don't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from benchmarks.peers import peers
from benchmarks.places import new_place

T = TypeVar("T")


def taking_part(ability: str, quick: bool) -> tuple[dict[str, ModuleType], list[str]]:
    """Those that have this ability and can be measured, and a line for each that can't."""
    found: dict[str, ModuleType] = {}
    absent = []
    for name, peer in peers().items():
        reason = peer.available()
        if reason is not None:
            absent.append(f"{name}: {reason}")
        elif quick and peer.NEEDS_A_CLUSTER:
            absent.append(f"{name}: takes too long to set up for a smoke run")
        elif hasattr(peer, ability):
            found[name] = peer
        else:
            absent.append(f"{name}: has nothing of the kind")
    return found, absent


def in_a_place(measure: Callable[[Path], T]) -> T:
    """Measure below a directory of its own."""
    return measure(new_place())

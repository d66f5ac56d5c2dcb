"""Is a name of a host this machine's? By its own name, and else by whether one of its addresses is ours."""

from __future__ import annotations

import socket
from typing import Any

from kueue.address import LOCAL_NAMES


def is_this_machine(name: str) -> bool:
    """Does `name` (or address) mean the machine that the program runs on? May ask the resolver."""
    name = name.lower().rstrip(".")
    own = socket.gethostname().lower()
    if name in LOCAL_NAMES or name == own:
        return True
    addresses = _addresses(name)
    if "." in name and "." in own:
        return any(map(_is_ours, addresses))
    is_address = any(name == str(address[0]) for _, address in addresses)
    same = not is_address and name.split(".", 1)[0] == own.split(".", 1)[0]
    return same or any(map(_is_ours, addresses))


def _addresses(name: str) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


def _is_ours(where: tuple[int, tuple[Any, ...]]) -> bool:
    """Only an address of this machine can be bound."""
    family, address = where
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True

"""What an agent's messages ask for, checked: after this, a wrong type can surprise nobody.

A fault raises `WireError`, and costs the agent its connection. The checks are on the way of every job; they
are plain on purpose.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kueue_worker.keeper.attempts import check_depth
from kueue_worker.keeper.wire import Message, WireError, to_bytes

LONGEST_KEY = 512
LONGEST_SECONDS = 1e9

Output = bytes | int | None
"""A path to create, a descriptor, or None: discarded."""


@dataclass(slots=True, eq=False)
class SpawnOrder:
    """A start. `err_is_out`: both streams are one description. `room`: what it takes up, empty if nobody can take
    its place; `until`: it waits for such a place, for so long. Its descriptors are its own until closed."""

    key: str
    job: Any
    attempt: Any
    program: bytes
    argv: list[bytes]
    env: str
    extra: list[tuple[bytes, bytes]]
    directory: int | str
    out: Output
    err: Output
    err_is_out: bool
    umask: int | None
    limits: dict[str, int]
    nice: int
    oom: int
    time_limit: float | None
    note: Any
    room: str = ""
    until: float | None = None


def read_spawn(message: Message, take_descriptor: Callable[[], int]) -> SpawnOrder:
    """The order in a `spawn`; takes the descriptors that it asks for, whatever becomes of it.

    Raises:
        WireError: it is none.
    """
    out, err = message.get("out"), message.get("err")
    out_is_descriptor = type(out) is dict and "fd" in out
    taken_out = take_descriptor() if out_is_descriptor else None
    try:
        taken_err = take_descriptor() if type(err) is dict and "fd" in err else None
    except WireError:
        _close(taken_out)
        raise
    try:
        argv = message["argv"]
        if type(argv) is not list or not argv:
            raise TypeError("argv")
        limits = message.get("limits") or {}
        if not all(type(name) is str and type(soft) is int for name, soft in limits.items()):
            raise TypeError("limits")
        umask = message.get("umask")
        if umask is not None and (type(umask) is not int or not 0 <= umask <= 0o777):
            raise TypeError("umask")
        time_limit, until = message.get("time_limit"), message.get("until")
        check_depth([message["job"], message["attempt"], message.get("note")])
        return SpawnOrder(
            read_key(message["key"]),
            message["job"],
            message["attempt"],
            to_bytes(read_text(message["program"])),
            [to_bytes(word) for word in argv],
            read_text(message["env"]),
            read_pairs(message.get("extra") or []),
            read_id(message["dir"]),
            _output(out) if taken_out is None else taken_out,
            None if err == "out" else _output(err) if taken_err is None else taken_err,
            err == "out",
            umask,
            limits,
            _small(message.get("nice")),
            _small(message.get("oom")),
            None if time_limit is None else read_seconds(time_limit),
            message.get("note"),
            read_text(message.get("room", "")),
            None if until is None else read_seconds(until),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _close(taken_out)
        _close(taken_err)
        raise WireError(f"a spawn that can't be read: {error!r}") from None


def read_key(value: object) -> str:
    """An attempt's key.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not str or not 0 < len(value) <= LONGEST_KEY or "\0" in value or "\n" in value:
        raise TypeError("key")
    return value


def read_id(value: object) -> int | str:
    """An agent's name for a directory.

    Raises:
        TypeError: it is none.
    """
    if type(value) is int or type(value) is str:
        return value
    raise TypeError("id")


def read_pairs(value: object) -> list[tuple[bytes, bytes]]:
    """Pairs of name and value. What can be no variable is left out.

    Raises:
        TypeError: these are none.
        ValueError: these are none.
    """
    if type(value) is not list:
        raise TypeError("pairs")
    pairs = [(to_bytes(name), to_bytes(content)) for name, content in value]
    return [
        (name, content)
        for name, content in pairs
        if name and b"=" not in name and b"\0" not in name + content
    ]


def read_seconds(value: object) -> float:
    """A time span, at most some decades.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise TypeError("seconds")
    return min(float(value), LONGEST_SECONDS)


def read_text(value: object) -> str:
    """A string.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not str:
        raise TypeError("text")
    return value


def _small(value: object) -> int:
    if value is None:
        return 0
    if type(value) is not int or not -1000 <= value <= 1000:
        raise TypeError("nice, oom")
    return value


def _output(value: Any) -> Output:
    if value is None or value == "null":
        return None
    path = to_bytes(read_text(value["path"]))
    if not path.startswith(b"/"):
        raise ValueError("output")
    return path


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)

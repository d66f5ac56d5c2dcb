"""What somebody types to see fewer jobs, as a selector. Pure; half a word is no mistake while one types."""

from __future__ import annotations

import re
from typing import Any

from kueue.durations import parse_duration
from kueue.errors import UsageError
from kueue.job import JobState
from kueue.wire.messages import Range, Selector
from kueue.wire.selector import fault_of

_STATES = tuple(state.value for state in JobState)
_IDS = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_NAMES = {"g": "group", "q": "queue", "n": "name", "w": "worker", "s": "state", "d": "cwd", "dir": "cwd"}


def selector_of(text: str) -> Selector:
    """The jobs that these words name; all words hold together.

    `failed` or `state:failed,running`, `group:G`, `queue:Q`, `name:GLOB` or any word with `*`, `?` or `[`,
    `worker:GLOB`, `cwd:DIR`, `exit:N`, `since:DUR`; all others together are looked for in names and commands, but if
    they are all like `17` or `20-400`, they are ids.

    Raises:
        UsageError: it can't be meant.
    """
    fields: dict[str, Any] = {}
    states: list[str] = []
    ranges: list[Range] = []
    words: list[str] = []
    for word in text.split():
        key, colon, value = word.partition(":")
        key = _NAMES.get(key, key)
        if word in _STATES:
            states.append(word)
        elif colon and key == "state":
            states += _states(value)
        elif colon and key in ("group", "queue", "name", "worker", "cwd", "exit", "since"):
            if value:
                _put(fields, key, value)
        elif any(mark in word for mark in "*?["):
            fields["name"] = word
        else:
            words.append(word)
    ids = [_IDS.fullmatch(word) for word in words]
    if all(ids):
        ranges = [(int(found[1]), int(found[2] or found[1])) for found in ids if found is not None]
        words = []
    selector = Selector(
        ranges=tuple(ranges), states=tuple(dict.fromkeys(states)), text=" ".join(words) or None, **fields
    )
    fault = fault_of(selector)
    if fault is not None:
        raise UsageError(fault[1])
    return selector


def _states(value: str) -> list[str]:
    """Those that begin with what is typed so far."""
    found = [state for part in value.split(",") if part for state in _STATES if state.startswith(part)]
    if value.strip(",") and not found:
        raise UsageError(f"no state begins with {value}; there are {', '.join(_STATES)}")
    return found


def _put(fields: dict[str, Any], key: str, value: str) -> None:
    if key == "exit":
        if not value.isdecimal() or len(value) > 9:
            raise UsageError("exit: a number")
        fields["exit_code"] = int(value)
    elif key == "since":
        fields["since_seconds"] = parse_duration(value)
    else:
        fields[key] = value

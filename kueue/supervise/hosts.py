"""Which machines `hostnames` names: patterns taken apart, ports and accounts beside the names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kueue.errors import ConfigError
from kueue.text import visible

MOST_HOSTS = 10_000

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]{0,63}")
_RANGE = re.compile(r"(\d+)-(\d+)")
_ADDRESS6 = re.compile(r"\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?)\](?::(\d+))?")


class Host(NamedTuple):
    """A machine as people name it; port and account are None where ssh's own configuration decides."""

    name: str
    port: int | None = None
    user: str | None = None

    @property
    def label(self) -> str:
        """How it is shown, and named with `--host`."""
        return self.name if self.port is None else f"{self.name}:{self.port}"


def expand(words: Sequence[str]) -> tuple[Host, ...]:
    """The machines that these words name, each once, in their order.

    `ralab[04-08,11]:2222` is six machines; digits keep their width. `you@host` names the account.

    Raises:
        ConfigError: a word names no machine; the text quotes it.
    """
    found: dict[Host, None] = {}
    for word in words:
        for host in _of_word(word):
            found[host] = None
            if len(found) > MOST_HOSTS:
                raise _fault(word, f"more than {MOST_HOSTS} hosts")
    return tuple(found)


def chosen(hosts: Sequence[Host], names: Sequence[str]) -> tuple[Host, ...]:
    """Those of `hosts` that `--host` names, by name or label; patterns are taken apart as in the list.

    Raises:
        ConfigError: one is not in the list.
    """
    kept: dict[Host, None] = {}
    for wanted in expand(names):
        matching = [
            host
            for host in hosts
            if host.name.lower() == wanted.name.lower() and wanted.port in (None, host.port)
        ]
        if not matching:
            raise ConfigError(f"--host {wanted.label}: not in [restart_workers] hostnames")
        kept.update(dict.fromkeys(matching))
    return tuple(kept)


def _of_word(word: str) -> Iterator[Host]:
    user, at, rest = word.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise _fault(word, "no name of an account before the @")
    account = user if at else None
    address = _ADDRESS6.fullmatch(rest)
    if address:
        yield Host(address[1], _port(word, address[2]), account)
        return
    name, colon, port = rest.partition(":")
    number = _port(word, port) if colon else None
    for each in _names(word, name):
        if not _NAME.fullmatch(each):
            raise _fault(word, "no name of a host")
        yield Host(each, number, account)


def _names(word: str, pattern: str) -> Iterator[str]:
    before, bracket, rest = pattern.partition("[")
    if not bracket:
        yield pattern
        return
    inside, closed, after = rest.partition("]")
    if not closed:
        raise _fault(word, "a bracket that is not closed")
    for part in inside.split(","):
        numbers = _RANGE.fullmatch(part)
        if numbers is None:
            choices: Sequence[str] = [part]
        else:
            first, last = int(numbers[1]), int(numbers[2])
            if not first <= last < first + MOST_HOSTS:
                raise _fault(word, f"{part} is no range of at most {MOST_HOSTS} numbers, the smaller first")
            choices = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
        if not part.isalnum() and numbers is None:
            raise _fault(word, "brackets hold numbers and ranges, like [04-08,11]")
        for choice in choices:
            for tail in _names(word, after):
                yield before + choice + tail


def _port(word: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise _fault(word, "a port is a number from 1 to 65535")
    return int(text)


def _fault(word: str, text: str) -> ConfigError:
    return ConfigError(f"[restart_workers] hostnames: {visible(word)}: {text}")

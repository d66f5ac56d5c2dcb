"""The part of TOML that people write in configurations, read quickly: no regular expressions to compile first.

Sections, plain keys, strings without escapes on one line or several, whole and decimal numbers, booleans,
lists of these on one line, comments. For anything else, faults included, `tomllib` has the word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_DIGITS = frozenset("0123456789")


class _NotPlainError(Exception):
    pass


def parse_plain(text: str) -> dict[str, Any] | None:
    """The tables of `text`, exactly as `tomllib` has them; None if that has to be asked."""
    try:
        return _tables(text)
    except _NotPlainError:
        return None


def _tables(text: str) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    table = tables
    opened: set[tuple[str, ...]] = set()
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for raw in lines:
        line = raw.strip(" \t")
        if not line or line[0] == "#":
            _check_printable(line)
            continue
        if line[0] == "[":
            path, rest = _section(line)
            _check_end(rest)
            if path in opened:
                raise _NotPlainError
            opened.add(path)
            table = tables
            for name in path:
                table = table.setdefault(name, {})
                if type(table) is not dict:
                    raise _NotPlainError
            continue
        key, equals, rest = line.partition("=")
        key = key.rstrip(" \t")
        if not equals or not key or not _BARE.issuperset(key) or key in table:
            raise _NotPlainError
        rest = rest.lstrip(" \t")
        if rest.startswith('"""'):
            value, rest = _long_string(raw.partition('"""')[2], lines)
        else:
            value, rest = _value(rest)
        _check_end(rest)
        table[key] = value
    return tables


def _section(line: str) -> tuple[tuple[str, ...], str]:
    """Names within the brackets, and what follows these."""
    path = []
    rest = line[1:]
    while True:
        rest = rest.lstrip(" \t")
        if rest.startswith('"'):
            name, rest = _string(rest)
        else:
            end = 0
            while end < len(rest) and rest[end] in _BARE:
                end += 1
            name, rest = rest[:end], rest[end:]
            if not name:
                raise _NotPlainError
        path.append(name)
        rest = rest.lstrip(" \t")
        if rest.startswith("."):
            rest = rest[1:]
        elif rest.startswith("]"):
            return tuple(path), rest[1:]
        else:
            raise _NotPlainError


def _value(text: str) -> tuple[Any, str]:
    if text.startswith('"'):
        return _string(text)
    if text.startswith("["):
        return _list(text[1:])
    end = 0
    while end < len(text) and text[end] not in " \t,]#":
        end += 1
    return _scalar(text[:end]), text[end:]


def _scalar(word: str) -> bool | int | float:
    if word in ("true", "false"):
        return word == "true"
    whole, point, fraction = word.removeprefix("-").partition(".")
    for digits in (whole, fraction) if point else (whole,):
        if not digits or not _DIGITS.issuperset(digits) or len(digits) > 15:
            raise _NotPlainError
    if whole[0] == "0" and len(whole) > 1:
        raise _NotPlainError
    return float(word) if point else int(word)


def _string(text: str) -> tuple[str, str]:
    """A string at the beginning of `text`, which has its quote; and what follows."""
    value, quote, rest = text[1:].partition('"')
    if not quote or "\\" in value or (not value and rest.startswith('"')):
        raise _NotPlainError
    _check_printable(value)
    return value, rest


def _long_string(part: str, lines: Iterator[str]) -> tuple[str, str]:
    """A string in three quotes: `part` is what follows these on their line, `lines` come after it."""
    parts = []
    while True:
        value, quote, rest = part.partition('"""')
        if "\\" in value or rest.startswith('"'):
            raise _NotPlainError
        _check_printable(value)
        parts.append(value)
        if quote:
            text = "\n".join(parts)
            return text.removeprefix("\n"), rest
        following = next(lines, None)
        if following is None:
            raise _NotPlainError
        part = following


def _list(text: str) -> tuple[list[Any], str]:
    values: list[Any] = []
    rest = text.lstrip(" \t")
    while not rest.startswith("]"):
        value, rest = _value(rest)
        values.append(value)
        rest = rest.lstrip(" \t")
        if rest.startswith(","):
            rest = rest[1:].lstrip(" \t")
        elif not rest.startswith("]"):
            raise _NotPlainError
    return values, rest[1:]


def _check_end(rest: str) -> None:
    """Nothing but blanks and a comment may follow."""
    rest = rest.lstrip(" \t")
    if rest and rest[0] != "#":
        raise _NotPlainError
    _check_printable(rest)


def _check_printable(text: str) -> None:
    if not text.replace("\t", "").isprintable():
        raise _NotPlainError

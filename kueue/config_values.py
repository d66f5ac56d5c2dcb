"""What a value of the configuration may be: strict checks, each with its own words for what is allowed.

A check takes the value as TOML gave it and returns the value to keep. It raises `ValueError` with a text
that goes on after `key = value: `. TOML's types count: `"5"` is no number and `true` is no 1.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any

from pydantic import PlainValidator

from kueue.amounts import MAX_AMOUNT

MIN_SECRET = 24
"""Fewest characters of a shared secret."""
MAKE_SECRET = 'python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
RESOURCE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
LOG_LEVELS = ("trace", "debug", "info", "warn", "warning", "error")
MAX_UNITS = 4096
"""Most named units of one resource."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_UNIT = re.compile(r"[^\s,\x00-\x1f\x7f]{1,64}")


def whole(low: int, high: int) -> PlainValidator:
    """A whole number of this range."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return PlainValidator(check)


def number(low: float, high: float) -> PlainValidator:
    """A number of this range, whole or not; kept as it is written."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:.10g}")
        kept: float = value
        return kept

    return PlainValidator(check)


def flag() -> PlainValidator:
    """`true` or `false`."""

    def check(value: Any) -> bool:
        if type(value) is not bool:
            raise ValueError("must be true or false")
        return value

    return PlainValidator(check)


def non_empty() -> PlainValidator:
    """A text that is not empty."""
    return PlainValidator(_text)


def secret() -> PlainValidator:
    """A shared secret."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) < MIN_SECRET:
            raise ValueError(
                f"must be a text of at least {MIN_SECRET} characters; make one with: {MAKE_SECRET}"
            )
        return value

    return PlainValidator(check)


def level() -> PlainValidator:
    """A log level, in any case."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in LOG_LEVELS:
            raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
        return value.lower()

    return PlainValidator(check)


def place() -> PlainValidator:
    """A path that is absolute or begins with `~`; `{host}` and `{user}` may be in it."""

    def check(value: Any) -> str:
        text = _text(value)
        if not text.startswith(("/", "~")):
            raise ValueError("must be an absolute path, or one that begins with ~")
        if re.search(r"[{}]", text.replace("{host}", "").replace("{user}", "")):
            raise ValueError("may contain {host} and {user}, but no other braces")
        return text

    return PlainValidator(check)


def host_name() -> PlainValidator:
    """A host's name or address; brackets around IPv6 are taken off."""

    def check(value: Any) -> str:
        if isinstance(value, str):
            bare = value.removeprefix("[").removesuffix("]")
            if _is_address(bare) or _is_host(bare):
                return bare
        raise ValueError("must be the name or address of a host, without a port")

    return PlainValidator(check)


def address_list() -> PlainValidator:
    """Addresses (or host names) to listen on, separated by spaces."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.split():
            raise ValueError('must be addresses separated by spaces, for instance "0.0.0.0 [::]"')
        for word in value.split():
            bare = word.removeprefix("[").removesuffix("]")
            if not _is_address(bare) and not _is_host(word):
                raise ValueError(f'{word!r} is no address; for instance "0.0.0.0 [::]"')
        return value

    return PlainValidator(check)


def host_names() -> PlainValidator:
    """Names of hosts, separated by spaces or line ends, or a list of them; kept as one text."""

    def check(value: Any) -> str:
        texts = value if isinstance(value, list | tuple) else [value]
        if all(isinstance(text, str) for text in texts):
            words = " ".join(texts).split()
            if all(word.isprintable() for word in words):
                return " ".join(words)
        raise ValueError("must be the names of hosts, separated by spaces")

    return PlainValidator(check)


def several(each: PlainValidator) -> PlainValidator:
    """A list of which `each` checks the members."""
    check_member: Callable[[Any], Any] = each.func  # type: ignore[assignment]

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list")
        try:
            return tuple(map(check_member, value))
        except ValueError as error:
            raise ValueError(f"each {error}") from None

    return PlainValidator(check)


def units() -> PlainValidator:
    """How much a worker has of a resource of its own: an amount, or the names of the units."""

    def check(value: Any) -> int | tuple[str, ...]:
        if isinstance(value, list | tuple):
            if not 0 < len(value) <= MAX_UNITS or len(set(map(str, value))) != len(value):
                raise ValueError(f"must be an amount, or a list of 1 to {MAX_UNITS} different names")
            if not all(isinstance(name, str) and _UNIT.fullmatch(name) for name in value):
                raise ValueError('names of units are texts without spaces and commas, like ["0", "1"]')
            return tuple(value)
        if type(value) is not int or not 1 <= value <= MAX_AMOUNT:
            raise ValueError(
                f'must be a whole number from 1 to {MAX_AMOUNT}, or names of units like ["0", "1"]'
            )
        return value

    return PlainValidator(check)


def resource_name() -> PlainValidator:
    """The name of a resource."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not RESOURCE_NAME.fullmatch(value):
            raise ValueError(
                "is no name of a resource: letters, digits, _ . - and a letter or _ first, at most 64"
            )
        return value

    return PlainValidator(check)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be a text that is not empty")
    return value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    # A last part of digits alone is a mistyped address (0.0.0.0.0), never a name.
    return bool(_HOST.fullmatch(text)) and not text.rstrip(".").rsplit(".", 1)[-1].isdigit()

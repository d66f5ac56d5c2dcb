"""Text from jobs, paths and peers, made safe for a terminal: control characters become visible, nothing more.

What a job calls itself must never move the cursor, change colours or hide another line. The result is for
people only; it can't be turned back (a backslash of the text itself stays as it is).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\x1b": "\\e"}
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that a terminal obeys, reorders or swallows: controls, formats (right-to-left overrides,
zero widths), surrogates, private and unassigned characters, line and paragraph separators."""


def visible(text: str) -> str:
    """`text` on one line, with whatever a terminal would obey or hide written as an escape."""
    if text.isprintable():  # true of most, and costs next to nothing
        return text
    return "".join(map(_shown, text))


def visible_block(text: str) -> str:
    """`text` with its lines and tabs kept (CR LF ends a line, too); everything else as `visible` does it."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in lines)


def visible_bytes(data: bytes) -> str:
    """`visible` of bytes that should be UTF-8; those that are not are shown as `\\xff`."""
    return visible(data.decode("utf-8", "surrogateescape"))


def quoted(words: Sequence[str]) -> str:
    """A command as one could type it, for people to read."""
    import shlex

    return visible(" ".join(map(shlex.quote, words)))


def _shown(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) not in _HIDING:
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was not UTF-8 (surrogateescape)
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"

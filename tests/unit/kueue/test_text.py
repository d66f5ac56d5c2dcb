"""Text that others chose can't do anything to a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue.text import quoted, visible, visible_block, visible_bytes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, größer 合成", "plain text, größer 合成"),
        ("\x1b[31mred", "\\e[31mred"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("bell\a nul\0 del\x7f", "bell\\x07 nul\\x00 del\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u200bc", "a\\u202eb\\u200bc"),
        ("\u2028\ufeff", "\\u2028\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("no\u00a0break", "no\u00a0break"),
        ("back\\slash", "back\\slash"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(), max_size=200))
def test_nothing_that_is_shown_can_control_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(shown) == shown
    shown.encode()


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(data: bytes) -> None:
    shown = visible_bytes(data)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible_bytes(shown.encode()) == shown


def test_bytes_that_are_not_utf_8_are_shown_by_number() -> None:
    assert visible_bytes("ä".encode() + b"\xff\x1b") == "ä\\xff\\e"


def test_a_block_keeps_its_lines_and_tabs_and_nothing_else() -> None:
    assert visible_block("a\tb\r\n\x1b[2Jc\rd\n") == "a\tb\n\\e[2Jc\\rd\n"


def test_a_command_is_shown_as_one_could_type_it() -> None:
    assert quoted(["sh", "-c", "echo 'a b'", ""]) == """sh -c 'echo '"'"'a b'"'"'' ''"""
    assert quoted(("x\ny", "\udcff")) == "'x\\ny' '\\xff'"

"""Marks in the names of output files."""

from __future__ import annotations

import pytest

from kueue.output_names import OutputNames
from kueue.wire.messages import OsString, RawBytes

NAMES = OutputNames(17, "opt 3", "tape/out", 2, "ralab04")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("out.log", "out.log"),
        ("%j.log", "17.log"),
        ("%g/%n.%a.log", "tape_out/opt 3.2.log"),
        ("%h-%i", "ralab04-0"),
        ("100%%", "100%"),
        ("%%j", "%j"),
        ("%x %", "%x %"),
        (RawBytes(b"\xff%j"), RawBytes(b"\xff17")),
    ],
)
def test_marks_stand_for_what_is_known_of_the_attempt(path: OsString, expected: OsString) -> None:
    assert NAMES.fill(path) == expected


def test_no_name_leads_out_of_the_directory() -> None:
    names = NAMES._replace(name="../../etc/x", group="..", host="a/b")
    assert names.fill("logs/%n/%h") == "logs/.._.._etc_x/a_b"


def test_where_nothing_is_asked_for_nothing_is_named() -> None:
    assert NAMES.fill(None) is None

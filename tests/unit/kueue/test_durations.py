"""Durations and amounts of memory, typed and shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue.durations import format_duration, format_ram, parse_duration, parse_ram_mb
from kueue.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("2D", 172800),
        ("1d2h3m4s", 93784),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        ("0s", 0),
        (" 90s ", 90),
        ("90m", 5400),
        ("00:15:00", 900),
        ("100:00:00", 360000),
        ("1-02:03:04", 93784),
        ("0-00:00:01", 1),
        ("36500d", 36500 * 86400),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("90", "a duration of 90 what? 90s is seconds, 90m is minutes"),
        ("1.5", "a duration of 1.5 what? 1.5s is seconds, 1.5m is minutes"),
        ("15:30", "a duration of 15:30 what? 15:30:00 is hours and minutes, 00:15:30 is minutes and seconds"),
        ("00:60:00", "not a time: '00:60:00'; minutes and seconds end at 59"),
        ("1-24:00:00", "not a time: '1-24:00:00'; after days, hours end at 23"),
        ("36501d", "'36501d' is too long; the longest duration is 36500d"),
    ],
)
def test_a_refused_duration_says_what_to_write(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-5s",
        "5x",
        "5w",
        "30m1h",
        "1h1h",
        "1e3s",
        "nan",
        "inf",
        "٣s",
        "5s\n6s",
        "9" * 5000 + "s",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="write 90s, 15m, 1h30m, 2d or") as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (math.nan, "0.0 s"),
        (math.inf, "forever"),
        (0.21, "0.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 m 0 s"),
        (192, "3 m 12 s"),
        (3599.7, "1 h 0 m"),
        (7500, "2 h 5 m"),
        (86399.9, "1 d 0 h"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 365 * 86400))
def test_what_is_shown_can_be_typed_and_means_the_same_up_to_its_smaller_unit(seconds: int) -> None:
    shown = format_duration(seconds)
    step = 3600 if "d" in shown else 60 if "h" in shown else 1
    assert abs(parse_duration(shown.replace(" ", "")) - seconds) < step


@pytest.mark.parametrize(
    ("text", "mb"),
    [
        ("2048", 2048),
        ("512M", 512),
        ("512m", 512),
        ("16G", 16384),
        ("16 GB", 16384),
        ("16GiB", 16384),
        ("1.5G", 1536),
        ("1T", 1048576),
        ("1K", 1),
        ("1500K", 2),
        ("0.1", 1),
        ("2147483647", 2147483647),
    ],
)
def test_amounts_of_memory_are_read(text: str, mb: int) -> None:
    assert parse_ram_mb(text) == mb


@pytest.mark.parametrize("text", ["0", "0G", "2147483648", "9223372036854775808", "2048T"])
def test_an_amount_of_memory_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="out of range; 1M to 2147483647M"):
        parse_ram_mb(text)


@pytest.mark.parametrize("text", ["", "-1", "5B", "5X", "1e3", "G", "16 G B", "9" * 5000, "٣", "inf"])
def test_anything_else_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 2048 \(MB\), 512M or 16G") as caught:
        parse_ram_mb(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("mb", "text"), [(0, "0 MB"), (511.6, "512 MB"), (1023.7, "1.0 GB"), (1024, "1.0 GB"), (21811, "21.3 GB")]
)
def test_amounts_of_memory_are_shown(mb: float, text: str) -> None:
    assert format_ram(mb) == text

"""Anything as the configuration: it loads, or one line of plain text says why not; never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from kueue.config import template_text
from kueue.config_faults import _keys_of
from kueue.config_model import ConfigModel
from tests.hostile.fuzz.seeds import SECRET, seeds
from tests.hostile.fuzz.targets import TARGETS

SEEDS = list(seeds("config"))
ODD = [
    -1,
    0,
    1,
    2**31,
    2**63 - 1,
    0.0,
    -1.0,
    1e308,
    float("inf"),
    float("nan"),
    True,
    "",
    "*",
    "[",
    "a\0b",
    "\u202e",
]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.sampled_from(ODD), st.text(st.characters(codec="utf-8"), max_size=30), st.integers(-5, 2**40)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = list(ConfigModel.model_fields)


def keys_of(section: str) -> list[str]:
    """The keys of a section, and some that are none."""
    return [*_keys_of([section]), "unknown", "", "é", "a.b", "genus"]


TABLES = st.fixed_dictionaries(
    {},
    optional={
        section: st.one_of(st.dictionaries(st.sampled_from(keys_of(section)), VALUES, max_size=4), VALUES)
        for section in SECTIONS
    },
)


@given(TABLES, st.booleans())
def test_any_values_of_any_keys_load_or_are_told_in_one_line(
    tables: dict[str, Any], with_secret: bool
) -> None:
    common = tables.get("common_settings", {})
    if with_secret and isinstance(common, dict):
        tables = {**tables, "common_settings": {**common, "shared_secret": SECRET}}
    TARGETS["config"](tomli_w.dumps(tables).encode())


@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_told_in_one_line(data: bytes) -> None:
    TARGETS["config"](data)


@settings(max_examples=60)
@given(st.sampled_from(SEEDS), st.integers(0, 20_000), st.integers(0, 40), st.binary(max_size=20))
def test_any_damage_of_the_template_loads_or_is_told_in_one_line(
    text: bytes, place: int, width: int, other: bytes
) -> None:
    place %= len(text)
    TARGETS["config"](text[:place] + other + text[place + width :])


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "[" * 500 + "]" * 500,
        "x = " + "9" * 10_000,
        "x = 1e99999",
        "x = {" * 3000,
        ".".join(["a"] * 5000) + " = 1",
        "[" + ".".join(["a"] * 5000) + "]",
        "\ufeff\ufeff",
        "x = 1979-05-27T07:32:00Z",
        '"' + "k" * 100_000 + '" = 1',
        "[common_settings]\n" * 2,
        "\0",
        "\x1b[2J = 1",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_no_person_writes_is_told_in_one_line(text: str) -> None:
    TARGETS["config"](text.encode())


@pytest.mark.parametrize("program", ["kueue_server", "kueue_worker"])
@pytest.mark.parametrize("damage", [b"\xff", b"[[[[", b"\n[server_settings]\nserver_port = 70000\n"])
def test_a_program_with_a_damaged_configuration_says_one_line_and_ends(
    tmp_path: Path, program: str, damage: bytes
) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_bytes(template_text().replace("{fresh secret}", SECRET).encode() + damage)
    words = [sys.executable, "-m", program, "--config", str(path)]
    ended = subprocess.run(words, capture_output=True, timeout=60, text=True, check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr

"""What is read quickly is what `tomllib` reads; everything else is left to it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kueue.plain_toml import parse_plain

ROOT = Path(__file__).resolve().parents[3]

PIECES = st.sampled_from(
    [
        *(
            "[a]",
            "[a.b]",
            '[a."x*"]',
            "[[a]]",
            "[",
            "]",
            "=",
            "k",
            "k2",
            "a.b",
            '"',
            '"""',
            "'",
            "'''",
            "\\",
            "\\n",
        ),
        *(
            "1",
            "-1",
            "0",
            "01",
            "1_0",
            "1.5",
            "1.",
            ".5",
            "1e5",
            "-0",
            "+1",
            "0x1",
            "inf",
            "nan",
            "1979-05-27",
        ),
        *(
            "true",
            "false",
            "True",
            "#",
            "# c",
            ",",
            "{",
            "}",
            " ",
            "\t",
            "\n",
            "\r\n",
            "\r",
            "\x00",
            "\x7f",
            "é",
        ),
        *(
            '"v"',
            '"a\tb"',
            '"é\u2028"',
            "[1, 2]",
            '["a", "b",]',
            "[ ]",
            "\n\n",
            " = ",
            "k = 1\n",
            "\xa0",
            "\ufeff",
        ),
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join))
@example('k = """\n a b \n"""\n')
@example('k = """a"" b"""')
@example('k = """x""""')
@example("[a]\nb = 1\n[a.b]\n")
@example("[a.b]\n[a]\nb = 2")
@example("[a.b]\n[a]\n[a.b]")
@example('k=""\nj=1')
@example("k = 1 # comment \x01")
@example("k = -0")
@example("k = -0.0")
def test_what_is_plain_is_what_tomllib_reads(text: str) -> None:
    plain = parse_plain(text)
    if plain is not None:
        found = tomllib.loads(text)
        assert repr(plain) == repr(found)  # 1 and True and 1.0 are equal, but not the same


def test_the_template_and_all_its_examples_are_plain() -> None:
    template = (ROOT / "config.template.toml").read_text()
    assert parse_plain(template) == tomllib.loads(template)
    examples = re.findall(r"(?m)^# (\w+ = (?!.*\{ ).*)$", template)
    assert len(examples) >= 5
    for line in examples:
        assert parse_plain(line) == tomllib.loads(line), line


def test_a_list_of_hosts_over_several_lines_is_plain() -> None:
    text = (
        '[restart_workers]\nhostnames = """\nrax11 rax17   \n  ralab[10-14]:2222\n"""  # all\nbackoff = 2.5\n'
    )
    assert parse_plain(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text", ["k = {a = 1}", "a.b = 1", "k = 'x'", '"k" = 1', "k = [\n1]", 'k = "\\n"', "k"]
)
def test_the_rest_is_left_to_tomllib(text: str) -> None:
    assert parse_plain(text) is None

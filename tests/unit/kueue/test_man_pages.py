"""The man pages are those that the command line gives, every command and option is in them, and `man` takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from kueue.cli.app import make_app

ROOT = Path(__file__).resolve().parents[3]
MAN = ROOT / "man"
COMMANDS: dict[str, Any] = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]


def page(name: str) -> str:
    """As people read it, as far as that takes no `man`."""
    return (MAN / f"{name}.1").read_text().replace("\\-", "-")


def test_the_pages_are_those_that_the_command_line_gives() -> None:
    done = subprocess.run(
        [sys.executable, "tools/man_pages.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_is_in_its_page(name: str) -> None:
    text = page(f"kueue-{name}")
    for parameter in COMMANDS[name].params:
        for flag in parameter.opts if parameter.param_type_name == "option" else ():
            assert f"\\fB{flag}\\fR" in text, flag
    assert f"\\fBkueue-{name}\\fR(1)" in page("kueue")


@pytest.mark.parametrize("program", ["kueue_server", "kueue_worker", "kueue_restart_workers"])
def test_the_other_programs_have_pages(program: str) -> None:
    assert "\\fB--config\\fR" in page(program)
    assert f"\\fB{program}\\fR(1)" in page("kueue")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_complain_of() -> None:
    files = sorted(map(str, MAN.glob("*.1")))
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", *files], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert re.search(r"LIST-JOBS", done.stdout)

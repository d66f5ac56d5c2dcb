"""The quick way through `kueue cmd`: it means what typer means, and knows when to leave it to typer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from kueue.cli import cmd_command
from kueue.cli.app import app
from kueue.cli.cmd_options import OPTIONS
from kueue.cli.quick import parse_cmd

FLAGS = [flag for option in OPTIONS for flag in option.flags]
WORDS = st.one_of(
    st.sampled_from(
        [*FLAGS, "cmd", "-c", "--config", "--color", "never", "--", "-", "", "4", "-5", "x=1", "--help"]
    ),
    st.sampled_from(FLAGS).flatmap(
        lambda flag: st.sampled_from([f"{flag}=3", f"{flag}3", f"{flag}=", f"{flag}x"])
    ),
    st.text("-=cjw0 ", max_size=4),
)
LINES = st.tuples(st.lists(WORDS, max_size=2), st.lists(WORDS, max_size=6)).map(
    lambda two: [*two[0], "cmd", *two[1]]
)


def typers(arguments: list[str]) -> tuple[str | None, str, dict[str, Any], list[str]] | None:
    """What typer makes of the same words; None: it complains, or does something else."""
    seen: list[tuple[str | None, str, dict[str, Any], list[str]]] = []

    def note(session: Any, command: list[str], values: dict[str, Any]) -> int:
        colour = "auto" if session.terminal.colour is False and "--color" not in arguments else "given"
        seen.append((session._config_path, colour, values, command))
        return 0

    patch = pytest.MonkeyPatch()
    patch.setattr(cmd_command, "submit", note)
    try:
        app(arguments, prog_name="kueue", standalone_mode=False)
    except Exception:
        return None
    finally:
        patch.undo()
    return seen[0] if seen else None


@given(LINES)
def test_what_is_parsed_quickly_means_what_typer_makes_of_it(arguments: list[str]) -> None:
    quick = parse_cmd(arguments)
    if quick is None:
        return
    slow = typers(arguments)
    assert slow is not None, quick
    assert (quick.config, quick.values, quick.command) == (slow[0], slow[2], slow[3])


@pytest.mark.parametrize(
    "words",
    [
        ["cmd", "true"],
        ["-c", "x.toml", "cmd", "--", "uname", "-a"],
        ["--config=x.toml", "--color", "never", "cmd", "-w", "./run", "-w"],
        [
            "cmd",
            "-j4",
            "-c",
            "2",
            "-r",
            "16G",
            "--resource",
            "a",
            "--resource=b=2",
            "-p",
            "-5",
            "sh",
            "-c",
            "exit 3",
        ],
    ],
)
def test_usual_calls_are_parsed_quickly(words: list[str]) -> None:
    quick = parse_cmd(words)
    assert quick is not None
    slow = typers(words)
    assert slow is not None
    assert (quick.config, quick.values, quick.command) == (slow[0], slow[2], slow[3])


@pytest.mark.parametrize(
    "words",
    [
        *(
            [],
            ["cmd"],
            ["cmd", "--help"],
            ["cmd", "-h", "x"],
            ["--version"],
            ["list-jobs", "cmd"],
        ),
        *(["cmd", "--wait=1", "x"], ["cmd", "--no-such", "x"], ["cmd", "-p", "x", "true"], ["cmd", "-j"]),
        *(["--color", "blue", "cmd", "true"], ["cmd", "--", "--"][:2], ["-c"]),
    ],
)
def test_help_mistakes_and_the_unusual_are_left_to_typer(words: list[str]) -> None:
    assert parse_cmd(words) is None


def test_every_option_of_the_table_is_shown_by_help() -> None:
    command = typer.main.get_command(app).commands["cmd"]  # type: ignore[attr-defined]
    shown = {flag for parameter in command.params for flag in parameter.opts}
    assert shown >= set(FLAGS)


def test_what_cannot_be_submitted_quickly_imports_nothing_heavy_either(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    config.write_text(
        f'[common_settings]\nshared_secret = "{"s" * 30}"\nserver_name = "no-such-host.invalid"\n'
    )
    heavy = ("asyncio", "pydantic", "typer", "rich", "uvloop", "cryptography", "subprocess", "kueue.config")
    code = (
        "import sys; from kueue.cli import main; main(['-c', sys.argv[1], 'cmd', 'true']);"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
    assert "unknown host" in done.stderr

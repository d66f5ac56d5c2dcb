"""The quick parser: it means what typer means, and knows when to leave it to typer."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from kueue.cli import app
from kueue.cli.command import Command
from kueue.cli.commands import NAMES, find
from kueue.cli.quick import parse, parse_submit

COMMANDS: dict[str, Command] = {name: command for name in NAMES if (command := find(name)) is not None}
GROUP: Any = typer.main.get_command(app.make_app())
OTHER_WORDS = st.one_of(
    st.sampled_from(
        ["cmd", "-c", "--config", "--color", "never", "--", "-", "", "4", "-5", "x=1", "--help", "last", "a"]
    ),
    st.text("-=cjw0 ", max_size=4),
)


def words_for(command: Command) -> st.SearchStrategy[str]:
    flags = [flag for option in command.options for flag in option.flags]
    if not flags:
        return OTHER_WORDS
    attached = st.sampled_from(flags).flatmap(
        lambda flag: st.sampled_from([f"{flag}=3", f"{flag}3", f"{flag}=", f"{flag}x"])
    )
    return st.one_of(OTHER_WORDS, st.sampled_from(flags), attached)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """What somebody might type: a command that there is, and words of all kinds around its name."""
    name = draw(st.sampled_from(NAMES))
    before = draw(st.lists(OTHER_WORDS, max_size=2))
    return [*before, name, *draw(st.lists(words_for(COMMANDS[name]), max_size=6))]


Read = tuple[Command, str | None, str, dict[str, Any]]


def typers(arguments: list[str]) -> Read | None:
    """What typer makes of the same words; None: it complains, or does something else."""
    seen: list[Read] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(app, "Session", lambda config, colour: (config, colour))
    for command in COMMANDS.values():

        def note(session: tuple[str | None, str], *, called: Command = command, **values: Any) -> int:
            seen.append((called, *session, values))
            return 0

        patch.setattr(command, "call", note)
    try:
        GROUP.main(arguments, prog_name="kueue", standalone_mode=False)
    except Exception:
        return None
    finally:
        patch.undo()
    return seen[0] if seen else None


def check(arguments: list[str]) -> bool:
    """Is it parsed quickly? Then as by typer, and the command takes what it is given."""
    quick, submit = parse(arguments), parse_submit(arguments)
    if submit is not None:
        assert quick is not None
        assert (submit.config, submit.colour) == (quick.config, quick.colour)
        assert submit.values | {"words": submit.words} == quick.values
    if quick is not None:
        assert typers(arguments) == (quick.command, quick.config, quick.colour, quick.values)
        inspect.signature(quick.command.call).bind(None, **quick.values)
    return quick is not None


@given(lines())
def test_what_is_parsed_quickly_means_what_typer_makes_of_it(arguments: list[str]) -> None:
    check(arguments)


@pytest.mark.parametrize("name", NAMES)
def test_each_command_is_parsed_quickly_with_each_of_its_options(name: str) -> None:
    command = COMMANDS[name]
    words = [str(number) for number, _ in enumerate(command.arguments)]
    assert check([name, *words])
    assert check(["-c", "x.toml", "--color=never", name, *words])
    for option in command.options:
        given = [option.flags[-1], *([] if option.kind == "flag" else ["7"])]
        assert check([name, *given, *words]), given
        assert check([name, *words, *given]) or command.ends_options


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
def test_usual_submits_are_parsed_quickly(words: list[str]) -> None:
    assert parse_submit(words) is not None
    assert check(words)


@pytest.mark.parametrize(
    "words",
    [
        *(
            [],
            ["cmd", "--help"],
            ["cmd", "-h", "x"],
            ["--version"],
            ["list-jobs", "--nosuch"],
            ["list-jobs", "-n"],
            ["show-job"],
            ["show-job", "1", "2"],
            ["pause-queue"],
            ["nosuch"],
        ),
        *(["cmd", "--wait=1", "x"], ["cmd", "--no-such", "x"], ["cmd", "-p", "x", "true"], ["cmd", "-j"]),
        *(["--color", "blue", "cmd", "true"], ["-c"]),
    ],
)
def test_help_mistakes_and_the_unusual_are_left_to_typer(words: list[str]) -> None:
    assert parse_submit(words) is None
    assert parse(words) is None


HEAVY = ("asyncio", "pydantic", "typer", "rich", "uvloop", "cryptography", "subprocess", "kueue.config")


@pytest.mark.parametrize(
    "words",
    [
        *(
            "cmd true",
            "cmd --array 1-3 true",
            "list-jobs -n 5",
            "show-job 1",
            "explain 1",
            "logs 1",
            "wait-job 1",
        ),
        *("remove-job -k 1", "rerun-job 1", "set-job 1 -p 5", "clean-jobs", "list-queues", "pause-queue a"),
        *("list-workers", "show-worker w1", "pause-worker w1", "list-resources", "reload", "dump a -"),
    ],
)
def test_a_plain_call_imports_nothing_heavy_on_its_way_to_the_server(tmp_path: Path, words: str) -> None:
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    config.write_text(
        f'[common_settings]\nshared_secret = "{"s" * 30}"\nserver_name = "no-such-host.invalid"\n'
    )
    code = (
        "import sys; from kueue.cli import main; main(['-c', *sys.argv[1:]]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config), *words.split()], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
    assert "unknown host" in done.stderr

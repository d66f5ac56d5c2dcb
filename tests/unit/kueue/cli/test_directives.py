"""`#KUEUE` lines of a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from kueue.cli.directives import with_directives
from kueue.errors import UsageError


def script(place: Path, *lines: str, name: str = "run.sh") -> str:
    path = place / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def added(path: str, *options: str) -> list[str]:
    """What comes before one's own options."""
    arguments = ["--color", "never", "cmd", *options, path, "-c", "7"]
    found = with_directives(arguments)
    assert found[:3] == arguments[:3]
    assert found[len(found) - len(arguments) + 3 :] == arguments[3:]
    return found[3 : len(found) - len(arguments) + 3]


def test_options_of_the_script_come_before_ones_own(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "#!/bin/sh",
        "# What it does",
        "#KUEUE -c 4 -r16G --resource genus=2",
        "",
        "#KUEUE --no-restart -o 'logs of it/%j.log'  # comment",
        "echo",
        "#KUEUE -p 5",
    )
    expected = ["--cpus", "4", "--ram-mb", "16G", "--resource", "genus=2", "--no-restart"]
    assert added(path) == [*expected, "--stdout", "logs of it/%j.log"]
    assert added(path, "-p", "3") == [*expected, "--stdout", "logs of it/%j.log"]


def test_what_is_named_again_on_the_command_line_counts_more(tmp_path: Path) -> None:
    path = script(tmp_path, "#!/bin/sh", "#KUEUE --resource genus=2 --resource disk --env A=1 --env B=2")
    assert added(path, "--resource", "genus", "--env", "B=3") == ["--resource", "disk", "--env", "A=1"]


@pytest.mark.parametrize("first", ["", "\x7fELF", "# no shebang", "#KUEUE -c 4"])
def test_only_scripts_have_them(tmp_path: Path, first: str) -> None:
    assert added(script(tmp_path, first, "#KUEUE -c 4")) == []


def test_other_comments_that_begin_alike_are_none(tmp_path: Path) -> None:
    assert (
        added(script(tmp_path, "#!/bin/sh", "#KUEUES -c 4", "#KUEUE", "# KUEUE -c 4", "##KUEUE -c 4")) == []
    )


def test_a_script_is_found_in_the_jobs_directory(tmp_path: Path) -> None:
    script(tmp_path, "#!/bin/sh", "#KUEUE -p 1")
    assert with_directives(["cmd", "-C", str(tmp_path), "./run.sh"])[:3] == ["cmd", "--priority", "1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["cmd"],
        [],
        ["list-jobs"],
        ["cmd", "run.sh"],
        ["cmd", "/nowhere/run.sh"],
        ["cmd", "--bad", "./x"],
        ["cmd", "./a\0b"],
    ],
)
def test_everything_else_is_left_alone(arguments: list[str]) -> None:
    assert with_directives(arguments) == arguments


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-c 4 ./other", "line 2: -c 4 ./other: not options of kueue cmd"),
        ("--colour red", "line 2: --colour red: not options of kueue cmd"),
        ("-o 'open", "line 2: -o 'open: No closing quotation"),
        ("--wait", "line 2: --wait is for the command line"),
    ],
)
def test_a_line_that_can_not_be_meant_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = script(tmp_path, "#!/bin/sh", f"#KUEUE {line}")
    with pytest.raises(UsageError) as caught:
        with_directives(["cmd", path])
    assert str(caught.value) == f"{path}, {expected}"

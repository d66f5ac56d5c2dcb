"""What is promised in the documents is what there is: messages, JSON keys, settings, commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from kueue.cli.commands import NAMES
from kueue.cli.render import json_rows
from kueue.cli.render.queues import queue_row
from kueue.config_model import ConfigModel
from kueue.resources import Capacity
from kueue.supervise import table
from kueue.supervise.perform import Row
from kueue.wire import messages
from kueue.wire.handshake import Challenge, ClientProof, ServerProof, Versions
from kueue.wire.messages import (
    AttemptView,
    JobDetail,
    JobView,
    QueueView,
    ResourceView,
    WorkerDetail,
    WorkerView,
)

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text()
JSON = (DOCS / "json.md").read_text()

UNIONS: tuple[Any, ...] = (
    messages.WorkerMessage,
    messages.ToWorker,
    messages.ClientMessage,
    messages.ToClient,
)
DIRECTIONS = ("Worker to server", "Server to worker", "Client to server", "Server to client")
TYPES = [kind for union in UNIONS for kind in get_args(union)]
PARTS = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in TYPES
]
SOURCES = [
    path for package in ("kueue", "kueue_server", "kueue_worker") for path in (ROOT / package).rglob("*.py")
]
CODE = re.compile(r'(?:\b(?:Reason|SpawnError)\(|\b_fail\([\w.]+,|\bcode=|return(?= "\w+", ))\s*"(\w+)"')
"""Where a reason gets its code: the calls that make one from a literal."""


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    (start,) = re.finditer(rf"^(#+) {re.escape(heading)}.*$", text, re.MULTILINE)
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest if end is None else rest[: end.start()]


def keys_in(text: str) -> set[str]:
    """The words in backticks."""
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize(
    ("direction", "kind"),
    [(way, kind) for way, union in zip(DIRECTIONS, UNIONS, strict=True) for kind in get_args(union)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_message_and_each_of_its_fields_is_in_the_protocol(
    direction: str, kind: type[msgspec.Struct]
) -> None:
    start = f"| `{kind.__struct_config__.tag}` |"
    (row,) = [line for line in section(PROTOCOL, direction).splitlines() if line.startswith(start)]
    fields = row.split("|")[2]
    for name in kind.__struct_fields__:
        assert f"`{name}`:" in fields, name


@pytest.mark.parametrize(("direction", "union"), [*zip(DIRECTIONS, UNIONS, strict=True)], ids=DIRECTIONS)
def test_no_message_of_the_protocol_is_gone(direction: str, union: Any) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(PROTOCOL, direction), re.MULTILINE)
    assert set(rows) == {kind.__struct_config__.tag for kind in get_args(union)}


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_each_part_of_a_message_is_in_the_protocol(kind: type[msgspec.Struct]) -> None:
    (row,) = [line for line in PROTOCOL.splitlines() if line.startswith(f"| {kind.__name__} |")]
    for name in kind.__struct_fields__:
        assert f"`{name}`:" in row, name


@pytest.mark.parametrize(
    "kind", [Challenge, ClientProof, ServerProof, Versions], ids=lambda kind: kind.__name__
)
def test_the_handshake_is_in_the_protocol(kind: type[msgspec.Struct]) -> None:
    lines = [line for line in PROTOCOL.splitlines() if f'"type":"{kind.__struct_config__.tag}"' in line]
    assert lines
    for name in kind.__struct_fields__:
        assert f'"{name}":' in lines[0]


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {key for inner in value.values() for key in keys_of(inner)} | set(value)
    if isinstance(value, list):
        return {key for inner in value for key in keys_of(inner)}
    return set()


ATTEMPT = AttemptView(1, "w", reason=messages.Reason("exit", "exit 2"))
JOB = JobView(1, "failed", ("a",), "/", 1, 1, attempts=(ATTEMPT,), reason=ATTEMPT.reason)
EXPLANATION = messages.Explanation(0, JOB, (messages.WorkerLacks("w", (messages.Reason("busy", "b"),)),))
WORKER = WorkerView(1, "w", "h", "1", "connected", Capacity(1, 1, 1, (("gpu", 1),)))


@pytest.mark.parametrize(
    ("heading", "row"),
    [
        ("A job", json_rows.job_object(JobDetail(0, JOB), messages.Context())),
        ("A worker", json_rows.worker_object(WorkerDetail(0, WORKER))),
        ("A queue", queue_row(QueueView("q", paused=messages.Pause(0.0)))),
        ("A resource", json_rows.resource_row(ResourceView("genus", 0, 1))),
        ("An explanation", json_rows.explanation_object(EXPLANATION)),
        ("A host", table.json_object(Row("rax11"))),
    ],
    ids=["job", "worker", "queue", "resource", "explanation", "host"],
)
def test_each_key_of_the_json_is_documented(heading: str, row: dict[str, Any]) -> None:
    assert keys_of(row) - {"gpu"} - keys_in(section(JSON, heading)) == set()


def test_each_code_of_a_reason_is_documented() -> None:
    codes = {code for path in SOURCES for code in CODE.findall(path.read_text())}
    assert {"busy", "lost", "no_program", "unknown_job", "backup_failed"} <= codes
    documented = keys_in(section(PROTOCOL, "Codes")) | keys_in(section(JSON, "Reasons"))
    # `refused` is a worker's own word for a handshake that failed; it never travels.
    # `exhausted` is between keeper and agent, which makes it a refusal (`no_resources`).
    assert codes - documented - {"refused", "exhausted"} == set()


def test_each_reason_of_a_job_that_waits_is_documented() -> None:
    codes = set(CODE.findall((ROOT / "kueue_server/core/waiting.py").read_text()))
    rows = [line for line in section(JSON, "Reasons").splitlines() if "| waits" in line]
    assert codes
    assert codes - keys_in("\n".join(rows)) == set()


def settings_of(name: str) -> list[str]:
    """The keys of a section of the configuration; none where the keys are the user's."""
    annotation = ConfigModel.model_fields[name].annotation
    for candidate in (annotation, *get_args(annotation)):
        if hasattr(candidate, "model_fields"):
            return list(candidate.model_fields)
    return []


@pytest.mark.parametrize("name", list(ConfigModel.model_fields))
def test_each_setting_is_in_the_template_with_a_comment(name: str) -> None:
    template = (ROOT / "config.template.toml").read_text()
    start = re.search(rf"^(?:# )?\[{name}\]$", template, re.MULTILINE)
    assert start is not None
    sections = "|".join(ConfigModel.model_fields)
    rest = re.split(rf"^(?:# )?\[(?:{sections})\]$", template[start.end() :], maxsplit=1, flags=re.MULTILINE)
    lines = rest[0].splitlines()
    for key in settings_of(name):
        setting = re.compile(rf"(?:# )?(?:{key} = |\[{name}\.{key}\b)")
        at = [number for number, line in enumerate(lines) if setting.match(line)]
        assert at, key
        assert lines[at[0] - 1].startswith("# "), key


def test_each_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in NAMES:
        assert name in readme, name


@pytest.mark.parametrize("document", ["reliability.md", "security.md"])
def test_each_test_that_a_promise_refers_to_exists(document: str) -> None:
    path = ROOT / "docs" / document
    if not path.exists():
        pytest.skip(f"no {document}")
    names = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", path.read_text())
    assert names
    for file, name in names:
        text = (ROOT / file).read_text()
        assert not name or re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"

"""What is promised in the documents is what there is: messages, JSON keys, settings, commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import typer

from kueue.cli.app import app
from kueue.cli.render import json_rows
from kueue.config_model import ConfigModel
from kueue.resources import Capacity, Shape
from kueue.wire import messages
from kueue.wire.handshake import Challenge, ClientProof, ServerProof, Versions
from kueue.wire.messages import (
    AttemptView,
    Command,
    JobDetail,
    JobView,
    ResourceView,
    WorkerDetail,
    WorkerView,
)

DOCS = Path(__file__).resolve().parents[3] / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text()
JSON = (DOCS / "json.md").read_text()

UNIONS: tuple[Any, ...] = (
    messages.WorkerMessage,
    messages.ToWorker,
    messages.ClientMessage,
    messages.ToClient,
)
TYPES = [kind for union in UNIONS for kind in get_args(union)]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_each_message_and_each_of_its_fields_is_in_the_protocol(kind: type[msgspec.Struct]) -> None:
    tag = kind.__struct_config__.tag
    rows = [line for line in PROTOCOL.splitlines() if line.startswith(f"| `{tag}` |")]
    assert rows
    for name in kind.__struct_fields__:
        assert all(f"`{name}`" in row for row in rows), name


@pytest.mark.parametrize(
    "kind",
    [
        Command,
        Shape,
        Capacity,
        JobView,
        AttemptView,
        *(
            getattr(messages, name)
            for name in (
                "Spec",
                "Context",
                "FinishedAttempt",
                "RunningAttempt",
                "RefusedAttempt",
                "OfferedJob",
            )
        ),
    ],
    ids=lambda kind: kind.__name__,
)
def test_each_part_of_a_message_is_in_the_protocol(kind: type[msgspec.Struct]) -> None:
    (row,) = [line for line in PROTOCOL.splitlines() if line.startswith(f"| {kind.__name__} |")]
    for name in kind.__struct_fields__:
        assert f"`{name}`" in row


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


def test_each_key_of_the_json_is_documented() -> None:
    attempt = AttemptView(1, "w")
    job = JobView(1, "failed", ("a",), "/", 1, 1, attempts=(attempt,))
    worker = WorkerView(1, "w", "h", "1", "connected", Capacity(1, 1, 1, (("gpu", 1),)))
    rows = [
        json_rows.job_object(JobDetail(0, job), messages.Context()),
        json_rows.worker_object(WorkerDetail(0, worker)),
        json_rows.resource_row(ResourceView("genus", 0, 1)),
    ]
    documented = set(re.findall(r"`(\w+)`", JSON))
    assert keys_of(rows) - {"gpu"} <= documented


def test_each_setting_is_in_the_template_with_a_comment() -> None:
    template = (DOCS.parent / "config.template.toml").read_text()
    for section, field in ConfigModel.model_fields.items():
        assert f"[{section}]" in template
        if section == "restart_workers":  # comes with its program
            continue
        for candidate in (field.annotation, *get_args(field.annotation)):
            for key in getattr(candidate, "model_fields", {}):
                assert re.search(rf"^#? ?\[?(worker_settings\.)?{key}\b", template, re.MULTILINE), key


def test_each_command_is_in_the_readme() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        assert name in readme, name

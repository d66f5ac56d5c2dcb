"""What somebody types as a filter, and what that means."""

from __future__ import annotations

import pytest

from kueue.errors import UsageError
from kueue.top.filtering import selector_of
from kueue.wire.messages import Selector


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Selector()),
        ("   ", Selector()),
        ("failed", Selector(states=("failed",))),
        ("failed running failed", Selector(states=("failed", "running"))),
        ("fail", Selector(text="fail")),
        ("state:s,fai", Selector(states=("succeeded", "failed"))),
        ("state:", Selector()),
        ("group:tapeout synth", Selector(group="tapeout", text="synth")),
        ("g:a w:ra*", Selector(group="a", worker="ra*")),
        ("group:", Selector()),
        ("queue:night failed", Selector(queue="night", states=("failed",))),
        ("q:", Selector()),
        ("exit:", Selector()),
        ("synth-*", Selector(name="synth-*")),
        ("name:x", Selector(name="x")),
        ("cwd:/data exit:3 since:2h", Selector(cwd="/data", exit_code=3, since_seconds=7200)),
        ("17", Selector(ranges=((17, 17),))),
        ("17 20-400", Selector(ranges=((17, 17), (20, 400)))),
        ("echo 17", Selector(text="echo 17")),
        ("http://x", Selector(text="http://x")),
    ],
)
def test_words_hold_together(text: str, wanted: Selector) -> None:
    assert selector_of(text) == wanted


@pytest.mark.parametrize("text", ["state:x", "exit:z", "since:2", "cwd:data", "x" * 1001])
def test_what_cannot_be_meant_is_said(text: str) -> None:
    with pytest.raises(UsageError):
        selector_of(text)

"""Jobs that tests hold and release."""

from __future__ import annotations

from tests.support.lab import Lab


def gated(lab: Lab, name: str) -> list[str]:
    """A command that appends to NAME.starts, waits for NAME.go and then writes NAME.done."""
    script = (
        f"echo $KUEUE_ATTEMPT >> {lab.work}/{name}.starts; "
        f"while [ ! -e {lab.work}/{name}.go ]; do sleep 0.05; done; echo ok; touch {lab.work}/{name}.done"
    )
    return ["sh", "-c", script]


def starts(lab: Lab, name: str) -> list[str]:
    """The attempts that have started."""
    path = lab.work / f"{name}.starts"
    return path.read_text().split() if path.exists() else []


def go(lab: Lab, name: str) -> None:
    """Let it end."""
    (lab.work / f"{name}.go").touch()

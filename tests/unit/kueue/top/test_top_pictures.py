"""Pictures of the screen, compared with those that were looked at: `pictures/*.svg` beside this file.

`KUEUE_NEW_PICTURES=1` writes them anew; look at what changed before you keep it.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from kueue.top.app import TopApp
from tests.unit.kueue.top.scripted_feed import NOW, ScriptedClient

PICTURES = Path(__file__).parent / "pictures"
WRITES = bool(os.environ.get("KUEUE_NEW_PICTURES"))
CASES = {
    "jobs": ((80, 24), ()),
    "jobs-wide": ((140, 30), ("down", "down")),
    "oldest-first": ((80, 24), ("o",)),
    "end": ((80, 24), ("end",)),
    "filter": ((80, 24), ("slash", *"failed")),
    "question": ((80, 24), ("down", "down", "down", "r")),
    "workers": ((80, 24), ("2",)),
    "licences": ((80, 24), ("3",)),
    "queues": ((80, 24), ("4",)),
    "keys": ((80, 24), ("question_mark",)),
}


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock is in a picture."""
    monkeypatch.setattr("kueue.top.feed.time.time", lambda: NOW)
    monkeypatch.setattr(TopApp, "_second", lambda app: None)


def normal(svg: str) -> str:
    """Without the number that makes each picture's names its own, and without what only a browser needs."""
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


async def settled(app: TopApp, pilot: Pilot[None]) -> str:
    """The picture when it changes no more."""
    picture = ""
    for _ in range(100):
        await pilot.pause(0.1)
        last, picture = picture, normal(app.export_screenshot())
        if picture == last:
            return picture
    pytest.fail("the screen never stands still")


@pytest.mark.parametrize("name", CASES)
async def test_the_screen_looks_as_it_did(name: str) -> None:
    size, keys = CASES[name]
    app = TopApp(ScriptedClient(200), clock=lambda: NOW)
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        async with asyncio.timeout(20):
            while not app.window.items:
                await pilot.pause(0.01)
        await pilot.press(*keys)
        async with asyncio.timeout(20):
            states = ("failed",) if name == "filter" else ()
            while app.window.selector.states != states or app.window.need() is not None:
                await pilot.pause(0.01)
            while name in ("workers", "licences") and not app.board.workers:
                await pilot.pause(0.01)
        figures = app.board.figures
        assert figures is not None
        for second in range(60):
            done, used = second * second // 20, float(second % 24)
            app.board.take(msgspec.structs.replace(figures, ended=done, cpus_used=used))
            app.board.sample()
        app.query_one("#filter", Input).cursor_blink = False
        app._changed()
        await pilot.pause()
        picture = await settled(app, pilot)
    place = PICTURES / f"{name}.svg"
    if WRITES:
        place.write_text(picture)
    assert picture == place.read_text(), f"{name} looks otherwise; KUEUE_NEW_PICTURES=1 writes it anew"

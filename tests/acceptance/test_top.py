"""`kueue top` as a person has it: keys in, a screen out, against a real server; what it asks for is counted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from kueue import AsyncClient, JobSpec, Selector
from kueue.top.app import TopApp
from kueue.wire.messages import JobPage
from tests.hostile import peers
from tests.hostile.peers import Served, serving
from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for

MANY = 200_000


class Counting(AsyncClient):
    """Counts what it asks for."""

    pages = 0
    rows = 0

    async def __aenter__(self) -> Counting:
        return self

    async def page(self, which: Selector, **options: Any) -> JobPage:
        """As the client does it."""
        found = await super().page(which, **options)
        self.pages += 1
        self.rows += len(found.jobs)
        return found

    def taken(self) -> tuple[int, int]:
        """Pages and rows since the last time."""
        found = self.pages, self.rows
        self.pages = self.rows = 0
        return found


class Screen:
    """The application under a pilot, and what it shows."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    def lines(self) -> list[str]:
        """The text on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines())

    def ids(self) -> list[int]:
        """The jobs that are seen, from the top."""
        return [job.id for job in self.app.window.visible()]

    def begins(self, ids: list[int]) -> bool:
        """Are these the jobs at the top?"""
        return self.ids()[: len(ids)] == ids

    async def until(self, what: str, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until the screen is so."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self.pilot.pause(0.02)
        except TimeoutError:
            pytest.fail(f"{what}:\n{self.text}")

    async def sees(self, text: str) -> None:
        """Wait until this is on the screen."""
        await self.until(f"{text!r} is shown", lambda: text in self.text)

    async def press(self, *keys: str) -> None:
        """Keys, one after another."""
        await self.pilot.press(*keys)


@contextlib.asynccontextmanager
async def shown(client: AsyncClient, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Screen]:
    """The application on a terminal of that size."""
    app = TopApp(client)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield Screen(app, pilot)


def client_of(port: int, secret: str = peers.SECRET) -> Counting:
    """Use it by itself, and close it."""
    return Counting(address=("127.0.0.1", port), secret=secret, connect_timeout=5.0)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as found:
        yield found


async def submit(client: AsyncClient, count: int) -> None:
    jobs = await client.submit_many(
        JobSpec(["echo", str(n)], group=f"g{n % 5}", ram_mb=1, cwd="/") for n in range(1, count + 1)
    )
    assert len(jobs) == count


# ---------------------------------------------------------------- a large table


@pytest.mark.timeout(240)
async def test_in_a_table_of_200_000_jobs_each_way_of_moving_asks_for_a_few_pages(served: Served) -> None:
    async with client_of(served.port) as client:
        await submit(client, MANY)
        async with shown(client) as screen:
            await screen.until("the newest are shown", lambda: screen.ids()[:1] == [MANY])
            await screen.sees(f"{MANY:,} pending")
            assert client.taken()[1] <= 500
            for key, top in (("end", [18]), ("home", [MANY])):
                await screen.press(key)
                await screen.until(f"{key} is reached", partial(screen.begins, top))
                await screen.pilot.pause()
                pages, rows = client.taken()
                assert (pages <= 4, rows <= 500) == (True, True), (key, pages, rows)
            for _ in range(40):
                await screen.press("pagedown")
            await screen.until("the pages are there", lambda: screen.ids()[:1] <= [MANY - 600])
            pages, rows = client.taken()
            assert (pages <= 20, rows <= 2000) == (True, True), (pages, rows)
            assert len(screen.app.window.items) <= 1000
            # At once, as if pasted: half a word is searched for as text, and how often depends on how fast it is typed.
            await screen.press("slash")
            screen.app.query_one("#filter", Input).value = "group:g3"
            await screen.until("the group is shown", lambda: all(job % 5 == 3 for job in screen.ids()))
            pages, rows = client.taken()
            assert (pages <= 8, rows <= 800) == (True, True), (pages, rows)
            await screen.press("escape")
            await screen.until("all are shown", lambda: screen.ids()[:2] == [MANY, MANY - 1])
    served.check()


async def test_a_rare_job_is_found_by_the_text_of_its_command(served: Served) -> None:
    async with client_of(served.port) as client:
        await submit(client, 10_000)
        async with shown(client) as screen:
            await screen.sees("10,000 pending")
            await screen.press("slash", *"echo 777")
            wanted = [7779 - n for n in range(10)] + [777]
            await screen.until("they are found", lambda: screen.ids() == wanted)
            await screen.until("and no more", lambda: screen.app.window.need() is None)


# ---------------------------------------------------------------- what happens is seen


async def test_new_jobs_appear_at_the_top_and_leave_who_looks_elsewhere_alone(served: Served) -> None:
    async with client_of(served.port) as client, shown(client) as screen:
        await screen.sees("no jobs")
        await submit(client, 60)
        await screen.until("the newest is on top", lambda: screen.ids()[:1] == [60])
        await screen.press("pagedown")
        before = screen.ids()
        await submit(client, 5)
        await screen.sees("65 pending")
        await screen.pilot.pause()
        assert screen.ids() == before
        await screen.press("home")
        await screen.until("the newest is on top again", lambda: screen.ids()[:1] == [65])
        await screen.press("o")
        await screen.until("the oldest is on top", lambda: screen.ids()[:1] == [1])


async def test_a_job_is_canceled_only_after_a_yes(served: Served) -> None:
    async with client_of(served.port) as client:
        await submit(client, 3)
        async with shown(client) as screen:
            await screen.until("they are shown", lambda: screen.ids() == [3, 2, 1])
            await screen.press("down", "k")
            await screen.sees("Cancel job 2?")
            await screen.press("n")
            await screen.press("delete")
            await screen.sees("Cancel job 2?")
            assert (await client.counts()).pending == 3
            await screen.press("y")
            await screen.sees("job 2 was canceled")
            await screen.sees("2 pending  1 canceled")
            await screen.until("its row says so", lambda: screen.app.window.items[1].state == "canceled")
            await screen.press("k")
            await screen.sees("job 2 has finished")
            await screen.press("r")
            await screen.sees("Run job 2 again?")
            await screen.press("y")
            await screen.sees("job 2 runs again as 4")


async def test_jobs_come_into_and_leave_a_state_that_is_asked_for(served: Served) -> None:
    async with client_of(served.port) as client:
        await submit(client, 5)
        async with shown(client) as screen:
            await screen.press("slash", *"canceled", "enter")
            await screen.sees("no such jobs")
            await client.cancel([2, 4])
            await screen.until("they are shown", lambda: screen.ids() == [4, 2])
            await client.clean()
            await screen.sees("no such jobs")


async def test_up_to_10_000_jobs_are_sorted_by_other_things_and_no_more(served: Served) -> None:
    async with client_of(served.port) as client:
        await submit(client, 10_001)
        await client.cancel([3, 9_000])
        async with shown(client) as screen:
            await screen.sees("10,001 jobs")
            await screen.press("s")
            await screen.sees("only up to 10,000 jobs")
            await screen.press("slash", *"1-10000", "enter")
            await screen.until("they are shown", partial(screen.begins, [10_000]))
            client.taken()
            for order in ("time", "name", "worker", "state"):
                await screen.press("s")
                await screen.sees(f"10,000 jobs sorted by {order}")
            assert screen.begins([9_000, 3, 10_000])
            assert client.taken()[1] <= 40_000
            await screen.press("s")
            await screen.until("they are by id again", partial(screen.begins, [10_000]))


async def test_the_mouse_selects_scrolls_opens_and_jumps(served: Served) -> None:
    async with client_of(served.port) as client:
        await submit(client, 3000)
        async with shown(client) as screen:
            await screen.until("they are shown", partial(screen.begins, [3000]))
            await screen.pilot.click("#jobs-grid", offset=(20, 5))
            assert screen.app.window.current is not None
            assert screen.app.window.current.id == 2996
            await screen.pilot.click("#jobs-grid", offset=(20, 3), times=2)
            await screen.sees("job:          2998")
            await screen.press("escape")
            await screen.pilot.click("#jobs-grid", offset=(79, 9))
            await screen.until("half-way is shown", lambda: 1200 < screen.ids()[0] < 1800)
            await screen.pilot.click("#jobs-grid", offset=(79, 18))
            await screen.until("the end is shown", lambda: screen.ids()[-1:] == [1])
            await screen.pilot.click("#--content-tab-workers")
            await screen.sees("no workers")


async def test_what_cannot_be_meant_is_said_while_it_is_typed(served: Served) -> None:
    async with client_of(served.port) as client, shown(client) as screen:
        await screen.press("slash", *"state:x")
        await screen.sees("no state begins with x")
        await screen.press("backspace", *"fai")
        await screen.until("it is mended", lambda: screen.app.window.selector.states == ("failed",))


# ---------------------------------------------------------------- real programs


async def test_a_log_is_followed_to_its_end_and_the_cluster_is_seen(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2", resources="genus = 3")
    lab.start_server()
    lab.start_worker("w1")
    gate = lab.work / "gate"
    script = f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo second; exit 3"
    job = lab.submit("--resource", "genus", "sh", "-c", script)
    async with client_of(lab.port, SECRET) as client, shown(client, (120, 30)) as screen:
        await screen.sees("1 running")
        await screen.press("3")
        await screen.until(
            "the licence is in use",
            lambda: any(line.split()[:3] == ["genus", "1", "3"] for line in screen.lines()),
        )
        await screen.press("2")
        await screen.sees("connected")
        await screen.press("enter")
        await screen.sees("processor:")
        await screen.press("escape", "1", "l")
        await screen.sees("first")
        assert "second" not in screen.text
        gate.touch()
        await screen.sees("second")
        await screen.sees("failed; Esc")
        await screen.press("escape")
        await screen.sees("exit 3")
        await screen.press("enter")
        await screen.sees("return code:  3")
        await screen.press("escape", "r")
        await screen.sees(f"Run job {job} again?")


async def test_it_says_that_the_server_is_away_and_goes_on_when_it_is_back(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    lab.start_server()
    lab.submit("true")
    async with client_of(lab.port, SECRET) as client, shown(client) as screen:
        await screen.sees("1 pending")
        lab.kill_server()
        await screen.sees("the server is away")
        lab.start_server()
        await screen.until("it is back", lambda: "the server is away" not in screen.text)
        lab.submit("true")
        await screen.sees("2 pending")
        await screen.until("both are shown", lambda: screen.ids() == [2, 1])


# ---------------------------------------------------------------- in a terminal


def typed(lab: Lab, before: list[str], *steps: tuple[str, str]) -> str:
    """`kueue top` on a pseudo-terminal of 80×24: waits for each text, then types; the last screen."""
    display = pyte.Screen(80, 24)
    stream = pyte.Stream(display)
    env = {name: value for name, value in lab.env.items() if name not in ("NO_COLOR", "STY")}
    command = [*before, sys.executable, "-m", "kueue", "top"]
    child = pexpect.spawn(
        command[0],
        command[1:],
        env={**env, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        cwd=str(lab.work),
        dimensions=(24, 80),
        timeout=30,
        encoding="utf-8",
    )

    def sees(text: str) -> bool:
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            stream.feed(child.read_nonblocking(65536, timeout=0.05))
        return text in "\n".join(display.display)

    try:
        for text, keys in steps:
            wait_for(f"{text!r} is shown", partial(sees, text))
            shown = "\n".join(display.display)
            child.send(keys)
        child.expect(pexpect.EOF)
    except AssertionError:
        pytest.fail("\n".join(display.display))
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
    return shown


@pytest.mark.parametrize("before", [[], ["screen", "-q", "-U"]], ids=["plain", "screen"])
def test_it_fills_a_terminal_of_80_by_24_and_leaves_it_by_q(lab: Lab, before: list[str]) -> None:
    if before and shutil.which(before[0]) is None:
        pytest.skip("screen is not installed")
    lab.submit("-w", "--name", "\x1b[2J[red]", "true")
    screen = typed(
        lab,
        before,
        ("1 succeeded", "2"),
        ("connected", "1"),
        ("Filter", "/"),
        ("filter:", "succ"),
        ("no such jobs", "\x1b"),
        ("\\e[2J[red]", "q"),
    )
    assert "Jobs" in screen
    assert "q Quit" in screen


def test_without_a_terminal_it_says_so_in_a_line(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    done = lab.kueue("top")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"needs a terminal" in done.stderr


def test_without_its_library_it_says_how_to_get_it(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    lab = make_lab()
    hidden = "import importlib.util, sys; find = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda name, *a: None if name == 'textual' else find(name, *a)\n"
    hidden += "from kueue.cli import main; sys.exit(main(['top']))\n"
    done = subprocess.run([sys.executable, "-c", hidden], env=lab.env, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode() == "kueue: kueue top needs Textual: pip install 'kueue[top]'\n"

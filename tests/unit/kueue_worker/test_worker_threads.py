"""Calls that may hang: deadlines, disposal, and answers that are remembered for a moment."""

from __future__ import annotations

import asyncio
import threading
import time

import uvloop

from kueue_worker.remembered import Remembered
from kueue_worker.threads import DeadlineThreads


async def test_results_and_exceptions_come_back_on_the_loop() -> None:
    threads = DeadlineThreads(asyncio.get_running_loop())
    results: list[object] = []
    done = asyncio.Event()

    def got(result: object) -> None:
        assert threading.current_thread() is threading.main_thread()
        results.append(result)
        if len(results) == 2:
            done.set()

    def fail() -> None:
        raise FileNotFoundError("x")

    threads.run(lambda: 42, got)
    threads.run(fail, got)
    await asyncio.wait_for(done.wait(), 10)
    assert 42 in results
    assert any(isinstance(result, FileNotFoundError) for result in results)
    threads.close()


async def test_a_hung_call_is_given_up_and_its_late_result_disposed_of() -> None:
    threads = DeadlineThreads(asyncio.get_running_loop())
    release = threading.Event()
    disposed = asyncio.Event()
    results: asyncio.Queue[object] = asyncio.Queue()

    def hang() -> str:
        release.wait()
        return "late"

    def dispose(result: str) -> None:
        assert result == "late"
        disposed.set()

    threads.run(hang, results.put_nowait, dispose=dispose, deadline_seconds=0.05)
    assert isinstance(await asyncio.wait_for(results.get(), 10), TimeoutError)
    release.set()
    await asyncio.wait_for(disposed.wait(), 10)
    assert results.empty()
    threads.close()


def test_who_slept_past_a_deadline_takes_in_what_came_meanwhile() -> None:
    """As after a suspend. On the agent's loop, which looks at its timers first."""

    async def main() -> None:
        threads = DeadlineThreads(asyncio.get_running_loop())
        results: asyncio.Queue[object] = asyncio.Queue()
        asked = threading.Event()
        threads.run(lambda: asked.wait(10) and 42, results.put_nowait, deadline_seconds=0.1, place="here")
        asked.set()
        time.sleep(1)  # noqa: ASYNC251 (the loop stands still for this time: that is what is tested)
        assert await asyncio.wait_for(results.get(), 10) == 42
        threads.run(lambda: 43, results.put_nowait, place="here")
        assert await asyncio.wait_for(results.get(), 10) == 43
        threads.close()

    uvloop.run(main())


async def test_a_hung_call_does_not_hold_up_others_and_threads_are_bounded() -> None:
    threads = DeadlineThreads(asyncio.get_running_loop(), most_threads=3)
    release = threading.Event()
    results: asyncio.Queue[object] = asyncio.Queue()
    ran: list[int] = []
    for _ in range(2):
        threads.run(release.wait, lambda result: None, deadline_seconds=60)
    threads.run(lambda: "quick", results.put_nowait)
    assert await asyncio.wait_for(results.get(), 10) == "quick"
    # With every thread hung, a further call runs into its deadline without having begun.
    hung = threading.Semaphore(0)

    def hang() -> None:
        hung.release()
        release.wait()

    threads.run(hang, lambda result: None, deadline_seconds=60)
    assert await asyncio.to_thread(hung.acquire, timeout=10)
    threads.run(lambda: ran.append(1), results.put_nowait, deadline_seconds=0.05)
    assert isinstance(await asyncio.wait_for(results.get(), 10), TimeoutError)
    release.set()
    threads.run(lambda: "again", results.put_nowait)
    assert await asyncio.wait_for(results.get(), 10) == "again"
    assert ran == []
    threads.close()


async def test_while_a_call_hangs_others_of_its_place_fail_at_once_and_take_no_thread() -> None:
    threads = DeadlineThreads(asyncio.get_running_loop(), most_threads=2)
    release = threading.Event()
    disposed = asyncio.Event()
    results: asyncio.Queue[object] = asyncio.Queue()
    ran: list[int] = []
    threads.run(
        release.wait,
        results.put_nowait,
        dispose=lambda _: disposed.set(),
        place="dead",
        deadline_seconds=0.05,
    )
    assert isinstance(await asyncio.wait_for(results.get(), 10), TimeoutError)
    for _ in range(10):
        threads.run(lambda: ran.append(1), results.put_nowait, place="dead")
        assert isinstance(results.get_nowait(), TimeoutError)
    threads.run(lambda: "well", results.put_nowait, place="alive")
    assert await asyncio.wait_for(results.get(), 10) == "well"
    release.set()
    await asyncio.wait_for(disposed.wait(), 10)
    threads.run(lambda: "back", results.put_nowait, place="dead")
    assert await asyncio.wait_for(results.get(), 10) == "back"
    assert ran == []
    threads.close()


async def test_a_call_that_found_no_thread_says_nothing_about_its_place() -> None:
    threads = DeadlineThreads(asyncio.get_running_loop(), most_threads=1)
    release = threading.Event()
    results: asyncio.Queue[object] = asyncio.Queue()
    threads.run(release.wait, lambda result: None, deadline_seconds=60)
    threads.run(lambda: "late", results.put_nowait, place="there", deadline_seconds=0.05)
    assert isinstance(await asyncio.wait_for(results.get(), 10), TimeoutError)
    release.set()
    threads.run(lambda: "well", results.put_nowait, place="there")
    assert await asyncio.wait_for(results.get(), 10) == "well"
    threads.close()


async def test_many_that_ask_the_same_cost_one_call_and_the_answer_holds_for_a_while() -> None:
    now = 0.0
    threads = DeadlineThreads(asyncio.get_running_loop())
    answers = Remembered[str, int](threads, lambda: now, seconds=1.0)
    calls: list[str] = []
    got: asyncio.Queue[object] = asyncio.Queue()

    def work() -> int:
        calls.append("call")
        time.sleep(0.01)
        return len(calls)

    for _ in range(100):
        answers.ask("k", work, got.put_nowait)
    assert [await asyncio.wait_for(got.get(), 10) for _ in range(100)] == [1] * 100
    answers.ask("k", work, got.put_nowait)
    assert got.get_nowait() == 1  # at once
    now = 1.5
    answers.ask("k", work, got.put_nowait)
    assert await asyncio.wait_for(got.get(), 10) == 2
    threads.close()


async def test_what_did_not_answer_is_not_asked_again_at_once() -> None:
    now = 0.0
    threads = DeadlineThreads(asyncio.get_running_loop())
    answers = Remembered[str, int](threads, lambda: now, seconds=1.0, hung_seconds=5.0)
    calls: list[int] = []
    got: asyncio.Queue[object] = asyncio.Queue()

    def slow() -> int:
        calls.append(1)
        raise TimeoutError

    answers.ask("k", slow, got.put_nowait)
    assert isinstance(await asyncio.wait_for(got.get(), 10), TimeoutError)
    now = 3.0
    answers.ask("k", slow, got.put_nowait)
    assert isinstance(got.get_nowait(), TimeoutError)
    assert calls == [1]
    threads.close()

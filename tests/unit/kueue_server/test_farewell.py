"""What `kueue down` and `kueue shutdown` print of the jobs that there are."""

from __future__ import annotations

import pytest

from kueue_server.farewell import farewell


@pytest.mark.parametrize(
    ("unfinished", "running", "workers", "kill", "lines"),
    [
        (0, 0, True, True, ()),
        (1, 0, False, False, ("1 job waits; it is kept for the next start of the server",)),
        (2, 0, True, False, ("2 jobs wait; they are kept for the next start of the server",)),
        (0, 1, False, False, ("1 job runs on; its worker waits for the server to come back",)),
        (0, 7, False, True, ("7 jobs run on; their workers wait for the server to come back",)),
        (0, 1, True, True, ("1 running job is interrupted; it starts again later",)),
        (0, 7, True, True, ("7 running jobs are interrupted; they start again later",)),
        (0, 1, True, False, ("1 job runs to its end; then its worker ends",)),
        (0, 7, True, False, ("7 jobs run to their end; then their workers end",)),
        (
            *(3, 1, True, False),
            (
                "3 jobs wait; they are kept for the next start of the server",
                "1 job runs to its end; then its worker ends",
            ),
        ),
    ],
)
def test_it_is_said_what_becomes_of_one_job_and_of_many(
    unfinished: int, running: int, workers: bool, kill: bool, lines: tuple[str, ...]
) -> None:
    assert farewell(unfinished, running, workers=workers, kill=kill) == lines

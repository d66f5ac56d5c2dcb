"""Arrays in the journal: one row for all tasks of which nothing has become, whatever their number."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from kueue.job import JobState
from kueue_server.core.instructions import (
    DropJobs,
    DropPart,
    SaveJob,
    SavePart,
    SaveSpec,
    SaveTask,
)
from kueue_server.core.records import RestoredJob, RestoredPart
from kueue_server.journal.interface import AddJobs

CONTEXT = b'{"env":[]}'
DIGEST = hashlib.sha256(CONTEXT).hexdigest()
PLAN = b'{"spec":{},"steps":[[1,9,1]]}'


def array(first: int, last: int) -> AddJobs:
    part = SavePart(first, last, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0)
    contexts = ((DIGEST, CONTEXT),)
    return AddJobs(first, 5.0, (), (), contexts, f"t{first}", "hash", whole=last - first + 1, array=part)


def rows(bench: Any) -> dict[str, int]:
    connection = sqlite3.connect(f"file:{bench.path}?mode=ro", uri=True)
    counts = {
        name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        for name in ("job", "progress", "part", "context")
    }
    connection.close()
    return counts


async def test_an_array_is_one_row_and_its_ids_are_given(bench: Any) -> None:
    await bench.write(array(17, 1_000_016))
    journal = bench.reopen()
    restored = journal.restore()
    assert restored.next_job == 1_000_017
    assert restored.parts == (RestoredPart(17, 1_000_016, 5.0, PLAN, JobState.PENDING, 0.0),)
    assert list(journal.restored_jobs()) == []
    known = journal.token("t17")
    assert known is not None
    assert (known.first, known.count) == (17, 1_000_000)
    journal.close()
    assert rows(bench) == {"job": 0, "progress": 0, "part": 1, "context": 1}
    bench.journal = bench._open()


async def test_what_becomes_of_tasks_comes_back_without_specs(bench: Any) -> None:
    await bench.write(array(1, 9))
    await bench.write(SaveJob(3, JobState.OFFERED, b'{"fence":7}'), SaveJob(5, JobState.FAILED, b"{}"))
    assert list(bench.reopen().restored_jobs()) == [
        RestoredJob(3, 0.0, JobState.OFFERED, b"", b'{"fence":7}'),
        RestoredJob(5, 0.0, JobState.FAILED, b"", b"{}"),
    ]


async def test_parts_are_replaced_and_dropped(bench: Any) -> None:
    await bench.write(array(1, 9))
    await bench.write(
        SavePart(1, 3, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0),
        SavePart(6, 9, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0),
        SavePart(4, 5, 5.0, DIGEST, PLAN, JobState.CANCELED, 8.5),
    )
    await bench.write(DropPart(6), DropJobs(((6, 9),)))
    assert bench.reopen().restore().parts == (
        RestoredPart(1, 3, 5.0, PLAN, JobState.PENDING, 0.0),
        RestoredPart(4, 5, 5.0, PLAN, JobState.CANCELED, 8.5),
    )


async def test_a_task_with_a_spec_of_its_own_is_a_job(bench: Any) -> None:
    await bench.write(array(1, 9))
    await bench.write(SaveJob(1, JobState.PENDING, b'{"losses":1}'))
    await bench.write(
        DropPart(1),
        SavePart(2, 9, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0),
        SaveTask(1, 5.0, DIGEST, b'{"own":1}'),
    )
    await bench.write(SaveSpec(1, b'{"own":2}'))
    own = RestoredJob(1, 5.0, JobState.PENDING, b'{"own":2}', b'{"losses":1}')
    assert list(bench.reopen().restored_jobs()) == [own]


async def test_a_context_lives_as_long_as_a_part_or_a_task_refers_to_it(bench: Any) -> None:
    await bench.write(array(1, 9))
    await bench.write(SaveJob(1, JobState.SUCCEEDED, b"{}"))
    await bench.write(
        DropPart(1), SavePart(2, 9, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0), DropJobs(((1, 1),))
    )
    assert bench.reopen().context(DIGEST) == CONTEXT
    await bench.write(
        DropPart(2),
        SavePart(3, 9, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0),
        SaveTask(2, 5.0, DIGEST, b"{}"),
    )
    await bench.write(DropPart(3), DropJobs(((3, 9),)))
    assert bench.reopen().context(DIGEST) == CONTEXT
    await bench.write(DropJobs(((2, 2),)))
    assert bench.reopen().context(DIGEST) is None


async def test_a_known_context_need_not_be_sent_again(bench: Any) -> None:
    await bench.write(array(1, 9))
    part = SavePart(10, 19, 5.0, DIGEST, PLAN, JobState.PENDING, 0.0)
    await bench.write(AddJobs(10, 5.0, (), (), (), "t10", "hash", whole=10, array=part))
    assert bench.reopen().restore().next_job == 20

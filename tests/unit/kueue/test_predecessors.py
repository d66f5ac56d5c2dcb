"""What a job waits for, as it is said in Python, on the command line, and on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kueue import JobSpec, Selector, UsageError
from kueue.cli.following import wire_waits
from kueue.job_encoding import Encoder
from kueue.job_handle import Job, SubmittedJobs
from kueue.predecessors import waits_of
from kueue.wire.messages import Waits
from kueue.wire.waits import fault_of_waits


def encoded(**options: Any) -> Waits | None:
    spec, _ = Encoder(1, 1024).encode(JobSpec(["true"], **options))
    return spec.waits


def test_jobs_ranges_and_selectors_may_be_named() -> None:
    many = SubmittedJobs(None, [(20, 29), (40, 49)], [])
    group = Selector(group="g")
    assert encoded(after=17) == Waits(((17, 17),))
    assert encoded(after=Job(17)) == Waits(((17, 17),))
    assert encoded(after=many) == Waits(((20, 29), (40, 49)))
    assert encoded(after=group) == Waits(select=(group,))
    assert encoded(after=[1, Job(2), (3, 9), many, group], after_any=(12, 14), on_failure="hold") == Waits(
        ((1, 9), (20, 29), (40, 49)), ((12, 12), (14, 14)), "hold", (group,), ()
    )


def test_who_waits_for_nothing_says_nothing() -> None:
    assert encoded() is None
    assert encoded(after=[]) is None
    spec, _ = Encoder(1, 1024).encode(JobSpec(["true"]))
    assert b"waits" not in msgspec.json.encode(spec)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"after": "17"}, "after: a job"),
        ({"after": [[1, 2]]}, "after: a job"),
        ({"after_any": [None]}, "after_any: a job"),
        ({"after": 0}, "no range of ids"),
        ({"after": [(9, 3)]}, "no range of ids"),
        ({"after": Selector()}, "no condition"),
        ({"after": 1, "on_failure": "stop"}, "on_failure is one of"),
        ({"on_failure": "hold"}, "give after, too"),
        ({"after": [(2 * n, 2 * n) for n in range(1, 10_002)]}, "at most 10000 ranges"),
    ],
)
def test_what_can_not_be_meant_is_a_mistake(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        encoded(**options)


def test_jobs_of_one_call_share_what_they_wait_for_unless_it_changes() -> None:
    encoder = Encoder(1, 1024)
    ids = [1]
    first = encoder.encode(JobSpec(["a"], after=ids))[0].waits
    ids.append(5)
    second = encoder.encode(JobSpec(["a"], after=ids))[0].waits
    assert (first, second) == (Waits(((1, 1),)), Waits(((1, 1), (5, 5))))
    fixed = ((1, 4), 9)
    one, other = (encoder.encode(JobSpec(["a"], after=fixed))[0].waits for _ in range(2))
    assert one is other


@pytest.mark.parametrize(
    ("after", "after_any", "on_failure", "expected"),
    [
        ([], [], None, None),
        (["17"], [], None, {"after": [[17, 17]]}),
        (["17,18,20-22", "30"], [], "cancel", {"after": [[17, 18], [20, 22], [30, 30]]}),
        (
            ["last,group=a=b,name=s-*"], [], "run",
            {"select": [{"last": True}, {"group": "a=b"}, {"name": "s-*"}], "on_failure": "run"},
        ),
        ([], ["1-5"], None, {"after_any": [[1, 5]]}),
    ],
)  # fmt: skip
def test_the_words_of_the_command_line(
    after: list[str], after_any: list[str], on_failure: str | None, expected: dict[str, Any] | None
) -> None:
    found = wire_waits(after, after_any, on_failure)
    assert found == expected
    if found is not None:
        waits = msgspec.convert(found, Waits)
        assert fault_of_waits(waits) is None
        again = waits_of(
            (*waits.after, *waits.select), (*waits.after_any, *waits.select_any), waits.on_failure
        )
        assert again == waits  # the quick way and the client's send the same


@pytest.mark.parametrize(
    ("after", "on_failure"),
    [
        (["", ], None), (["1,,2"], None), (["x"], None), (["group="], None), (["cwd=/x"], None), (["9-3"], None),
        (["1-"], None), (["0"], None), (["1"], "never"), ([], "hold"),
    ],
)  # fmt: skip
def test_words_that_can_not_be_meant(after: list[str], on_failure: str | None) -> None:
    with pytest.raises(UsageError):
        wire_waits(after, [], on_failure)

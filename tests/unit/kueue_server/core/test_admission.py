"""What is refused at submit, with which words, and what is only warned of."""

from __future__ import annotations

import msgspec
import pytest

from kueue.amounts import MAX_AMOUNT
from kueue.resources import Shape
from kueue.wire.messages import Command, RawBytes, Reason, Spec
from kueue_server.core.events import Limits
from tests.support.core_bench import Bench, make_spec

SHAPE = Shape(1, 100)


def changed(**fields: object) -> Spec:
    return msgspec.structs.replace(make_spec(), **fields)


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        (changed(payload=Command(())), "empty_command", "the command is empty"),
        (changed(payload=Command(("",))), "empty_command", "the command is empty"),
        (changed(payload=Command((RawBytes(b""),))), "empty_command", "the command is empty"),
        (
            changed(payload=Command(("a", "b\0c"))),
            "bad_command",
            "a NUL byte can't be in an argument or path",
        ),
        (changed(cwd=RawBytes(b"/a\0")), "bad_command", "a NUL byte can't be in an argument or path"),
        (changed(cwd="/a\0"), "bad_command", "a NUL byte can't be in an argument or path"),
        (changed(stderr="e\0"), "bad_command", "a NUL byte can't be in an argument or path"),
        (changed(cwd="/" + "x" * 8192), "bad_directory", "the working directory is longer than 8192 bytes"),
        (changed(volume="/" + "x" * 8192), "bad_directory", "the volume is longer than 8192 bytes"),
        (changed(cwd="here"), "bad_directory", "the working directory must be an absolute path"),
        (changed(cwd=RawBytes(b"a/")), "bad_directory", "the working directory must be an absolute path"),
        (changed(volume=""), "bad_directory", "the volume must be an absolute path"),
        (make_spec(cpus=-1), "bad_amount", f"-1 CPUs: must be 0 to {MAX_AMOUNT}"),
        (make_spec(cpus=2**63), "bad_amount", f"{2**63} CPUs: must be 0 to {MAX_AMOUNT}"),
        (make_spec(ram_mb=-5), "bad_amount", f"-5 MB of memory: must be 0 to {MAX_AMOUNT}"),
        (make_spec(slots=0), "bad_amount", f"0 job slots: must be 1 to {MAX_AMOUNT}"),
        (make_spec(resources={"lic": 0}), "bad_amount", f"0 of resource lic: must be 1 to {MAX_AMOUNT}"),
        (make_spec(resources={"lic": 3}), "too_much", "3 of resource lic: there are 2 in all"),
        (make_spec(resources={"lick": 1}), "unknown_resource", "unknown resource lick; known: gpu, lic"),
        (make_spec(priority=1001), "bad_priority", "priority 1001: must be -1000 to 1000"),
        (make_spec(max_restarts=-1), "bad_max_restarts", f"max_restarts -1: must be 0 to {MAX_AMOUNT}"),
        (changed(time_limit_seconds=0.0), "bad_time_limit", "the time limit must be longer than nothing"),
        (changed(name="x" * 1001), "bad_name", "the name is longer than 1000 characters"),
        (changed(group="x" * 1001), "bad_name", "the group is longer than 1000 characters"),
        (changed(queue="x" * 1001), "bad_name", "the queue is longer than 1000 characters"),
        (
            changed(shape=msgspec.structs.replace(SHAPE, resources=(("lic", 1), ("lic", 1)))),
            "bad_resource",
            "resources must be sorted by name, each once",
        ),
    ],
)
def test_what_can_never_run_is_refused_with_the_reason(spec: Spec, code: str, text: str) -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),)))
    bench.worker(own={"gpu": 1})
    assert bench.core.refusal_of(spec) == Reason(code, text)
    assert bench.core.refusal_of(spec) == Reason(code, text)


def test_what_may_run_is_not_refused() -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),)))
    session = bench.worker(own={"gpu": 1})
    bench.disconnect(session)
    for spec in (
        make_spec(),
        make_spec(cpus=0, ram_mb=0),
        make_spec(cpus=10_000),
        make_spec(resources={"lic": 2, "gpu": 500}),
        changed(cwd=RawBytes(b"/d/\xff"), volume=RawBytes(b"/d")),
    ):
        assert bench.core.refusal_of(spec) is None


def test_a_resource_is_known_as_soon_as_a_worker_announces_it_and_a_limit_as_soon_as_it_is_reloaded() -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),)))
    gpu, many = make_spec(resources={"gpu": 1}), make_spec(resources={"lic": 5})
    assert bench.core.refusal_of(gpu) == Reason("unknown_resource", "unknown resource gpu; known: lic")
    assert bench.core.refusal_of(many) is not None
    bench.worker(own={"gpu": 1})
    bench.set_limits(Limits(global_resources=(("lic", 5),)))
    assert bench.core.refusal_of(gpu) is None
    assert bench.core.refusal_of(many) is None


def test_warnings_are_given_once_a_reason() -> None:
    bench = Bench()
    text = "no worker is connected; jobs wait until one is"
    assert bench.core.warnings_for([make_spec()] * 5) == (Reason("no_worker", text),)
    bench.worker(cpus=4, own={"gpu": 1})
    assert bench.core.warnings_for([make_spec()] * 5) == ()
    wide = make_spec(cpus=5, slots=2, resources={"gpu": 1})
    assert bench.core.warnings_for([wide, make_spec(), wide, make_spec(workers=("x*",))]) == (
        Reason("no_fit", "no connected worker has 5 CPUs"),
        Reason("no_fit", "no connected worker has the right name (x*)"),
    )


def test_what_no_worker_has_is_named_and_all_that_is_needed_where_no_worker_has_it_at_once() -> None:
    bench = Bench()
    bench.worker("large", cpus=16)
    bench.worker("small", cpus=2, own={"gpu": 1})
    specs = [
        make_spec(cpus=64, ram_mb=10**9, resources={"gpu": 1}, workers=("x*", "y")),
        make_spec(cpus=4, resources={"gpu": 1}),
        make_spec(cpus=4, not_workers=("large",)),
    ]
    assert [warning.text for warning in bench.core.warnings_for(specs)] == [
        "no connected worker has 64 CPUs, 1000000000 MB and the right name (x*, y)",
        "no connected worker has 4 CPUs, 100 MB, 1 gpu",
        "no connected worker has 4 CPUs, 100 MB and the right name (not large)",
    ]

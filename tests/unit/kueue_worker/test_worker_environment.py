"""What jobs find in their environment."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from kueue.errors import ProtocolError
from kueue.resources import Shape
from kueue.wire.messages import Command, Context, RawBytes, Spec
from kueue_worker.contexts import DEFAULT_PATH, MOST_ENCODED, Contexts
from kueue_worker.core.events import Note
from kueue_worker.environment import base_environment, own_environment, variable_part


def test_what_kueue_set_in_an_outer_job_is_not_inherited_and_the_rest_is() -> None:
    context = Context(
        env=(
            ("HOME", "/h"),
            ("KUEUE_CONFIG", "/c"),
            ("KUEUE_FENCE", "x"),
            ("KUEUE_JOB_ID", "1"),
            ("KUEUE_RESOURCE_GPU", "0"),
            ("PATH", "/bin"),
            ("PWD", "/old"),
            ("RAW", RawBytes(b"\xff")),
            ("TMPDIR", "/scratch"),
        )
    )
    kept = [("HOME", "/h"), ("KUEUE_CONFIG", "/c"), ("PATH", "/bin"), ("RAW", "\udcff")]
    assert base_environment(context, False) == kept
    assert base_environment(context, True) == [*kept, ("TMPDIR", "/scratch")]


def own(shape: Shape, units: tuple[tuple[str, tuple[str, ...]], ...], names: set[str]) -> dict[str, str]:
    """The part that differs from job to job."""
    spec = Spec(Command(("true",)), "/w", "/", shape, "digest")
    return dict(own_environment(spec, Note("j", 5, 50, 2, shape, units), "lab1", "/w", names))


def test_a_job_is_told_who_it_is_and_what_it_has() -> None:
    shape = Shape(cpus=4, ram_mb=500, resources=(("genus", 2), ("gpu", 2)))
    assert own(shape, (("gpu", ("0", "3")),), set()) == {
        "PWD": "/w",
        "KUEUE_JOB_ID": "5",
        "KUEUE_ATTEMPT": "2",
        "KUEUE_CPUS": "4",
        "KUEUE_RAM_MB": "500",
        "KUEUE_WORKER": "lab1",
        "OMP_NUM_THREADS": "4",
        "KUEUE_RESOURCE_GENUS": "2",
        "KUEUE_RESOURCE_GPU": "0,3",
        "CUDA_VISIBLE_DEVICES": "0,3",
    }


def test_threads_that_the_submitter_chose_stay() -> None:
    assert "OMP_NUM_THREADS" not in own(Shape(), (), {"OMP_NUM_THREADS"})


def test_a_resource_s_name_becomes_part_of_a_variable_s() -> None:
    assert variable_part("sim-pro.v2") == "SIM_PRO_V2"


def test_contexts_are_found_by_their_hash() -> None:
    contexts = Contexts()
    encoded = msgspec.json.encode(Context(env=(("PATH", "/p"), ("TMPDIR", "/t")), umask=0o22))
    digest = hashlib.sha256(encoded).hexdigest()
    contexts.add(encoded)
    found = contexts.get(digest)
    assert (found.search_path, found.tmpdir, found.context.umask) == ("/p", "/t", 0o22)
    assert found.names == {"PATH", "TMPDIR"}


def test_without_a_path_programs_are_looked_for_in_the_usual_places() -> None:
    contexts = Contexts()
    contexts.add(b"{}")
    found = contexts.get(hashlib.sha256(b"{}").hexdigest())
    assert (found.search_path, found.tmpdir) == (DEFAULT_PATH, None)


@pytest.mark.parametrize("encoded", [b"", b'{"env":7}', b"[" * 100_000])
def test_a_context_that_can_not_be_decoded_is_the_server_s_fault(encoded: bytes) -> None:
    contexts = Contexts()
    contexts.add(encoded)
    with pytest.raises(ProtocolError):
        contexts.get(hashlib.sha256(encoded).hexdigest())


def test_the_number_of_contexts_is_bounded() -> None:
    contexts = Contexts()
    for number in range(MOST_ENCODED + 1):
        contexts.add(str(number).encode())
    assert hashlib.sha256(b"0").hexdigest() not in contexts
    assert hashlib.sha256(b"1").hexdigest() in contexts

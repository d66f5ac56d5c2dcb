"""What can't be meant is refused in words; what can becomes the wire's spec, with environment and directory."""

from __future__ import annotations

import datetime
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kueue.directories import current_directory, volume_of
from kueue.environment import context_of, digest_of
from kueue.errors import UsageError
from kueue.job_encoding import Encoder, changes_of
from kueue.job_spec import JobSpec
from kueue.wire.messages import Changes, Context, RawBytes, Spec


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.delenv("PWD", raising=False)


def encoded(command: Any, **options: Any) -> Spec:
    return Encoder(2, 512).encode(JobSpec(command, **options))[0]


def context(
    environ: dict[str, str], extra: dict[str, str] | None = None, clean: bool = False
) -> dict[Any, Any]:
    decoded = msgspec.json.decode(context_of(environ, extra or {}, clean=clean), type=Context)
    return dict(decoded.env)


def test_defaults_are_the_configuration_s() -> None:
    spec = encoded(["true"])
    assert (spec.shape.cpus, spec.shape.ram_mb, spec.shape.job_slots) == (2, 512, 1)
    assert (spec.cwd, spec.volume, spec.max_restarts, spec.restart) == ("/", "/", 5, True)
    assert encoded(["true"], cpus=0, ram_mb=0).shape.cpus == 0


def test_words_may_be_text_bytes_or_paths() -> None:
    assert encoded(["a", b"b\xff", Path("/c"), "d\udcfe", ""]).payload.argv == (
        "a",
        RawBytes(b"b\xff"),
        "/c",
        RawBytes(b"d\xfe"),
        "",
    )


def test_a_word_of_200_kb_is_no_matter() -> None:
    assert len(encoded(["echo", "x" * 200_000]).payload.argv[1]) == 200_000  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["a | b", b"ls", Path("ls"), 7, None])
def test_a_command_is_a_list_of_words(command: Any) -> None:
    with pytest.raises(UsageError, match="list of words"):
        JobSpec(command)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"command": []}, "command is empty"),
    ({"command": ["", "x"]}, "command is empty"),
    ({"command": ["a", 7]}, "7 is neither text nor a path"),
    ({"command": ["a\0b"]}, "NUL"),
    ({"command": [b"a\0\xff"]}, "NUL"),
    ({"cpus": -1}, r"cpus = -1: must be 0 to 2147483647"),
    ({"cpus": 2**63}, "must be 0 to"),
    ({"cpus": 1.5}, "whole number"),
    ({"cpus": "4"}, "whole number"),
    ({"cpus": True}, "whole number"),
    ({"ram_mb": -5}, "ram_mb"),
    ({"job_slots": 0}, "job_slots = 0: must be 1"),
    ({"resources": {"genus": 0}}, "genus = 0"),
    ({"resources": {"genus": "1"}}, "whole number"),
    ({"resources": {3: 1}}, "must be text"),
    ({"priority": 1001}, "-1000 to 1000"),
    ({"max_restarts": -1}, "max_restarts"),
    ({"retries": -1}, "retries"),
    ({"retries": 1, "restart": False}, "at most once"),
    ({"retry_delay": -1}, "retry_delay = -1 s: must be 0 to"),
    ({"retry_delay": float("nan")}, "must be 0 to"),
    ({"retry_delay": "5m"}, "seconds or a timedelta"),
    ({"retry_on": [0]}, "1 to 255"),
    ({"retry_on": ["1"]}, "whole number"),
    ({"time_limit": 0}, "longer than nothing"),
    ({"time_limit": float("nan")}, "finite"),
    ({"time_limit": float("inf")}, "finite"),
    ({"time_limit": "5m"}, "seconds or a timedelta"),
    ({"time_limit": datetime.timedelta(seconds=-1)}, "longer than nothing"),
    ({"name": 3}, "name must be text"),
    ({"name": "a\udcff"}, "not UTF-8"),
    ({"group": b"x"}, "group must be text"),
    ({"cwd": 3}, "cwd must be a path"),
    ({"cwd": "/a\0b"}, "NUL"),
    ({"stdout": 3}, "stdout"),
    ({"stderr": "a\0"}, "NUL"),
    ({"env": {"": "x"}}, "can't be the name"),
    ({"env": {"A=B": "x"}}, "can't be the name"),
    ({"env": {"A": "x\0"}}, "NUL"),
    ({"env": {"A": 3}}, "text"),
    ({"env": {"A": ["x"]}}, "text"),
    ({"workers": "lab1"}, r'\["lab1"\]'),
    ({"not_workers": [1]}, "must be text"),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[str(options)[:40] for options, _ in BAD])
def test_what_can_t_be_meant_is_refused_in_one_line(options: dict[str, Any], says: str) -> None:
    options = dict(options)
    command = options.pop("command", ["true"])
    with pytest.raises(UsageError, match=says) as raised:
        encoded(command, **options)
    assert "\n" not in str(raised.value)


def test_directories_are_absolute_and_normal(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    assert encoded(["true"], cwd="a/../b").cwd == f"{tmp_path}/b"
    assert encoded(["true"], cwd=b"\xff").cwd == RawBytes(os.fsencode(tmp_path) + b"/\xff")
    assert encoded(["true"]).cwd == str(tmp_path)


def test_the_shell_s_name_of_the_directory_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    os.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    assert current_directory() == str(link)
    monkeypatch.setenv("PWD", "/usr")  # stale
    assert current_directory() == str(real)
    monkeypatch.setenv("PWD", "relative")
    assert current_directory() == str(real)


def test_a_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    os.chdir(place)
    place.rmdir()
    with pytest.raises(UsageError, match="does not exist any more"):
        encoded(["true"])


def test_a_volume_is_a_mount_point_or_the_first_part_of_the_path() -> None:
    assert volume_of("/proc/self/fd") == "/proc"
    assert volume_of("/no-such-place/of/any/kind") == "/no-such-place"
    assert volume_of("/") == "/"


def test_jobs_of_one_encoder_differ_in_what_they_differ() -> None:
    """An encoder goes by the job before where nothing has changed; here something always has."""
    resources, workers, not_workers = {"genus": 1}, ["a"], ["b"]
    changing: list[dict[str, Any]] = [
        *(
            {},
            {"cpus": 1},
            {"cpus": 2},
            {"ram_mb": 5},
            {"job_slots": 2},
            {"priority": 3},
            {"max_restarts": 1},
        ),
        *({"time_limit": 2.0}, {"resources": resources}, {"resources": {}}, {"workers": workers}),
        *({"workers": ("a",)}, {"workers": ("b",)}, {"not_workers": not_workers}, {"not_workers": ()}),
        *({"env": {"A": "1"}}, {"env": {}}, {"clean_env": True}, {"restart": False}, {"name": "n"}),
        *(
            {"retries": 2},
            {"retries": 2, "retry_delay": 5},
            {"retries": 2, "retry_on": (7, 1)},
            {"retries": 0},
        ),
        *({"group": "g"}, {"cwd": "/a"}, {"stdout": "o"}, {"stderr": "e"}, {}),
    ]
    encoder = Encoder(2, 512)
    for options in changing:
        together = encoder.encode(JobSpec(["true"], **options))
        assert together == Encoder(2, 512).encode(JobSpec(["true"], **options))
    for grown in ("resources", "workers", "not_workers"):
        job = JobSpec(["true"], resources=resources, workers=workers, not_workers=not_workers)
        before = encoder.encode(job)
        match grown:
            case "resources":
                resources["calibre"] = 2
            case "workers":
                workers.append("c")
            case _:
                not_workers.append("d")
        after = encoder.encode(job)
        assert after != before
        assert after == Encoder(2, 512).encode(job)
    encoder.encode(JobSpec(["true"], cpus=1))
    with pytest.raises(UsageError, match="whole number"):
        encoder.encode(JobSpec(["true"], cpus=True))


# ---------------------------------------------------------------- environment


def test_what_belongs_to_a_session_stays_with_it() -> None:
    session = {
        "PWD": "/x",
        "TERM": "xterm",
        "TMUX_PANE": "%1",
        "SSH_AUTH_SOCK": "/x",
        "XDG_SESSION_ID": "1",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "DBUS_SESSION_BUS_ADDRESS": "x",
        "KRB5CCNAME": "x",
        "_": "/usr/bin/kueue",
        "KUEUE_JOB_ID": "7",
        "KUEUE_RESOURCE_GPU": "1",
        "KUEUE_FENCE": "x",
    }
    own = {"PATH": "/bin", "HOME": "/h", "TERMINAL": "x", "PWD_OLD": "x", "KUEUE_CONFIG": "/c", "X_": "y"}
    assert context({**session, **own}) == own


def test_what_kueue_set_in_a_job_is_not_handed_on_by_it() -> None:
    inside = {"KUEUE_JOB_ID": "7", "KUEUE_CPUS": "4", "KUEUE_RESOURCE_GPU": "0,1"}
    assert context({**inside, "OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0,1"}) == {}
    own = {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "3"}
    assert context({**inside, **own}) == own
    assert context({"OMP_NUM_THREADS": "4", "KUEUE_CPUS": "4"}) == {"OMP_NUM_THREADS": "4"}


def test_extra_variables_win_and_a_clean_environment_is_bare() -> None:
    environ = {"PATH": "/bin", "LC_ALL": "C", "LD_PRELOAD": "x", "HOME": "/h"}
    assert context(environ, {"HOME": "/other", "TERM": "dumb"}, clean=True) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "HOME": "/other",
        "TERM": "dumb",
    }


def test_equal_environments_are_one_blob_whatever_their_order() -> None:
    one = context_of({"A": "1", "B": "2"}, {"C": "3"}, clean=False)
    two = context_of({"B": "2", "C": "3", "A": "1"}, {}, clean=False)
    assert one == two
    assert digest_of(one) == digest_of(two) != digest_of(context_of({"A": "1"}, {}, clean=False))


def test_variables_that_are_not_utf_8_travel_as_bytes() -> None:
    assert context({"A": "caf\udce9"}) == {"A": RawBytes(b"caf\xe9")}


@pytest.fixture
def restored() -> Iterator[None]:
    """umask and limits as they were."""
    umask = os.umask(0o022)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    yield
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_CORE, limits)


@pytest.mark.usefixtures("restored")
def test_umask_and_soft_limits_are_the_submitter_s() -> None:
    os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    found = msgspec.json.decode(context_of({}, {}, clean=False), type=Context)
    assert found.umask == 0o027
    assert found.limits["core"] == 0
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert found.limits["nofile"] == (-1 if soft == resource.RLIM_INFINITY else soft)
    assert os.umask(0o027) == 0o027


def test_one_encoder_works_out_a_context_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(1, 1)
    first = encoder.encode(JobSpec(["a"]))
    monkeypatch.setenv("LATER", "1")
    second = encoder.encode(JobSpec(["b"]))
    other = encoder.encode(JobSpec(["b"], env={"X": "1"}))
    assert first[1] is second[1]
    assert first[0].context == second[0].context != other[0].context
    assert digest_of(other[1]) == other[0].context


def test_retries_are_said_as_seconds_and_sorted_codes() -> None:
    spec = encoded(["true"], retries=3, retry_delay=datetime.timedelta(minutes=2), retry_on=[75, 1, 75])
    assert (spec.max_retries, spec.retry_delay_seconds, spec.retry_on) == (3, 120.0, (1, 75))
    plain = encoded(["true"])
    assert (plain.max_retries, plain.retry_delay_seconds, plain.retry_on) == (0, None, ())


def test_changes_name_what_is_to_be_different() -> None:
    assert changes_of({}) == Changes()
    found = changes_of(
        {"cpus": 2, "resources": {"b": 0, "a": 1}, "time_limit": 0, "group": "g", "priority": -3}
    )
    assert found == Changes(
        cpus=2, resources=(("a", 1), ("b", 0)), priority=-3, group="g", time_limit_seconds=0.0
    )
    assert changes_of({"time_limit": datetime.timedelta(seconds=5)}).time_limit_seconds == 5.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cpus": -1}, "cpus"),
        ({"job_slots": 0}, "job_slots"),
        ({"resources": {"a": -1}}, "a = -1"),
        ({"priority": 1001}, "priority"),
        ({"group": 3}, "group"),
        ({"time_limit": -1}, "longer than nothing"),
        ({"command": ["x"]}, "command can't be changed; cpus, "),
    ],
)
def test_changes_that_can_not_be_meant_are_refused(options: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        changes_of(options)


def test_a_job_becomes_the_same_spec_whichever_came_before_it() -> None:
    """Jobs share what was made of the one before, where nothing says otherwise."""
    ways: list[dict[str, Any]] = [
        {},
        {"cwd": "/usr"},
        {"cpus": 3},
        {"stdout": "a.log", "stderr": Path("b.log")},
        {"name": "n", "group": "g", "queue": "q", "key": "k"},
        {"env": {"A": "1"}},
        {"env": {"A": "2"}, "clean_env": True},
        {"resources": {"genus": 1}},
        {"workers": ["a*"]},
        {"not_workers": ("b",), "retry_on": (3,), "retries": 2, "retry_delay": 1.5},
        {"time_limit": datetime.timedelta(seconds=3), "priority": -1, "restart": False},
        {"after": 3, "on_failure": "run"},
        {"after": [3, (5, 7)]},
    ]
    jobs = [JobSpec(["true", str(number)], **way) for number, way in enumerate(ways)]
    shared = Encoder(2, 512)
    for first in jobs:
        for second in jobs:
            for job in (first, second, second):
                assert shared.encode(job) == Encoder(2, 512).encode(job)


@pytest.mark.parametrize("option", ["resources", "env", "workers", "retry_on", "after"])
def test_what_was_changed_meanwhile_counts(option: str) -> None:
    values: dict[str, tuple[Any, Any]] = {
        "resources": ({"a": 1}, {"b": 2}),
        "env": ({"A": "1"}, {"B": "2"}),
        "workers": (["a"], ["b"]),
        "retry_on": ([1], [2]),
        "after": ([1], [2]),
    }
    now, later = values[option]
    options: dict[str, Any] = {option: now}
    job = JobSpec(["true"], retries=1, **options)
    encoder = Encoder(2, 512)
    before = encoder.encode(job)
    assert encoder.encode(job) == before
    now.clear()
    if isinstance(now, dict):
        now.update(later)
    else:
        now.extend(later)
    assert encoder.encode(job) != before
    assert encoder.encode(job) == Encoder(2, 512).encode(job)


def test_only_a_spec_is_encoded() -> None:
    with pytest.raises(UsageError, match="JobSpec is needed"):
        Encoder(1, 1).encode(["true"])  # type: ignore[arg-type]

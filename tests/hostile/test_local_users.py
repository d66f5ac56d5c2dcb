"""What another user of the same machine can prepare or take, and that it gets him nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kueue.private_files import foreign_link, why_not_own
from kueue_worker.place import name_on_host
from tests.acceptance.conftest import lab, make_lab  # noqa: F401
from tests.hostile import another_user
from tests.support.lab import Lab
from tests.support.waiting import wait_for

two_users = pytest.mark.skipif(bool(another_user.why_nobody_else()), reason=another_user.why_nobody_else())

HOLD = """
import socket, sys
kept = []
for name in sys.argv[1:]:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("\\0" + name)
    sock.listen()
    sock.settimeout(1.0)
    kept.append(sock)
print("ready", flush=True)
sys.stdin.read()
for sock in kept:
    for _ in range(20):
        try:
            peer, _ = sock.accept()
        except OSError:
            break
        peer.settimeout(1.0)
        try:
            print("told", peer.recv(65536), flush=True)
        except OSError:
            pass
"""
ASK = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(5.0)
sock.connect("\\0" + sys.argv[1])
print("ready", flush=True)
body = json.dumps({"m": "hello", "v": 1, "agent": "stranger"}).encode()
try:
    sock.sendall(len(body).to_bytes(4, "big") + body)
    print("answer", sock.recv(65536), flush=True)
except OSError as error:
    print("closed", error, flush=True)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory where everybody may make files, like /var/tmp."""
    place = Path(tempfile.mkdtemp(prefix="kueue-test-", dir="/tmp"))
    place.chmod(0o1777)
    yield place
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        another_user.run("sh", "-c", f"rm -rf {place}/theirs* {place}/kueue*")
    shutil.rmtree(place, ignore_errors=True)


def failing(lab: Lab, program: str, *arguments: str) -> tuple[int, str]:  # noqa: F811
    """Start a daemon that must end at once; its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments], env=lab.env, capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stderr.decode().splitlines()[-1]


# ---------------------------------------------------------------- prepared places


@two_users
def test_a_state_directory_that_another_user_has_made_is_not_used(
    make_lab: Callable[..., Lab],  # noqa: F811
    public: Path,
) -> None:
    """With `state_dir` in /var/tmp everybody knows its name beforehand; who owns it could give us his journal."""
    lab = make_lab()  # noqa: F811
    lab.config.write_text(lab.config.read_text().replace("autostart = false", "autostart = true"))
    lab.env["KUEUE_STATE_DIR"] = str(public / "kueue-state")
    another_user.run("mkdir", "-m", "0777", f"{public}/kueue-state", f"{public}/kueue-state/server")
    code, said = failing(lab, "kueue_server")
    assert code == 2
    assert said.startswith(
        f"kueue_server: the state directory is not safe: {public}/kueue-state belongs to another"
    )
    done = lab.kueue("up")
    assert done.returncode == 3
    assert b"is not safe" in done.stderr
    assert not list((public / "kueue-state").rglob("*.sqlite*"))
    assert not (public / "kueue-state" / "log").exists()


@two_users
def test_a_server_directory_that_another_user_has_put_into_an_open_state_directory_is_not_used(
    make_lab: Callable[..., Lab],  # noqa: F811
    public: Path,
) -> None:
    lab = make_lab()  # noqa: F811
    lab.env["KUEUE_STATE_DIR"] = str(public)
    another_user.run("mkdir", "-m", "0777", f"{public}/theirs")
    code, said = failing(lab, "kueue_server")
    assert code == 2
    assert "other users can write to" in said
    public.chmod(0o755)
    (public / "server").symlink_to(public / "theirs")
    code, said = failing(lab, "kueue_server")
    assert code == 2
    assert "belongs to another user" in said


@two_users
@pytest.mark.parametrize("what", ["directory", "link to theirs", "link to ours"])
def test_a_spool_that_another_user_has_prepared_is_not_used(
    make_lab: Callable[..., Lab],  # noqa: F811
    public: Path,
    what: str,
) -> None:
    """A link to a place of ours is no good either: whoever made it leads us elsewhere tomorrow."""
    lab = make_lab(worker=f'spool_dir = "{public}/kueue"')  # noqa: F811
    ours = lab.place / "private"
    ours.mkdir(mode=0o755)
    if what == "directory":
        another_user.run("mkdir", "-m", "0777", f"{public}/kueue")
    else:
        another_user.run("mkdir", "-m", "0777", f"{public}/theirs")
        target = ours if what == "link to ours" else public / "theirs"
        another_user.run("ln", "-s", str(target), f"{public}/kueue")
    code, said = failing(lab, "kueue_worker")
    assert code == 2
    assert said.startswith("kueue_worker: spool ")
    assert ("belongs to another user" if what == "directory" else "that another user made") in said
    assert "set spool_dir to another place" in said
    assert not list(ours.iterdir())
    assert stat.S_IMODE(ours.stat().st_mode) == 0o755


@two_users
def test_a_configuration_of_another_user_is_not_used_by_any_program(
    make_lab: Callable[..., Lab],  # noqa: F811
    public: Path,
) -> None:
    lab = make_lab()  # noqa: F811
    (public / "original").write_bytes(lab.config.read_bytes())
    (public / "original").chmod(0o644)
    another_user.run("install", "-m", "0644", f"{public}/original", f"{public}/theirs.toml")
    lab.env["KUEUE_CONFIG"] = f"{public}/theirs.toml"
    for program in ("kueue_server", "kueue_worker"):
        code, said = failing(lab, program)
        assert (code, "belongs to another user" in said) == (2, True)
    done = lab.kueue("list-jobs")
    assert done.returncode == 2
    assert b"belongs to another user" in done.stderr


def test_a_configuration_that_others_can_read_is_refused_by_every_program(
    make_lab: Callable[..., Lab],  # noqa: F811
) -> None:
    lab = make_lab()  # noqa: F811
    lab.config.chmod(0o640)
    for program in ("kueue_server", "kueue_worker"):
        code, said = failing(lab, program)
        assert (code, "mend that with: chmod 600" in said) == (2, True)
    done = lab.kueue("list-jobs")
    assert (done.returncode, b"mend that with: chmod 600" in done.stderr) == (2, True)


def test_who_owns_a_place_or_a_link_decides_what_is_in_it(
    tmp_path: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules themselves, for those who have no second user id: files are ours, and we are somebody else."""
    (public / "target").mkdir()
    (public / "link").symlink_to(tmp_path)
    (public / "round").symlink_to(public / "round")
    assert why_not_own(public / "target") == ""
    assert foreign_link(public / "link" / "x") is None
    assert foreign_link(public / "round") is None
    (public / "target").chmod(0o775)
    assert "chmod go-w" in why_not_own(public / "target")
    (tmp_path / "file").touch()
    assert "not a directory" in why_not_own(tmp_path / "file")
    ours, theirs = os.getuid(), 54321
    monkeypatch.setattr(os, "getuid", lambda: theirs)
    assert f"belongs to another user (uid {ours})" in why_not_own(public / "target")
    (tmp_path / "quiet").symlink_to(public)
    assert foreign_link(tmp_path / "quiet") is None  # nobody else can make files there
    if ours != 0:  # /tmp is root's, the link in it ours
        inside = Path(tempfile.mktemp(prefix="kueue-test-link-", dir="/tmp"))
        inside.symlink_to(tmp_path)
        try:
            assert foreign_link(inside / ".." / inside.name / "x") == str(inside)
        finally:
            inside.unlink()


# ---------------------------------------------------------------- names of sockets


@two_users
def test_a_keeper_s_address_that_another_user_holds_is_told_nothing(make_lab: Callable[..., Lab]) -> None:  # noqa: F811
    lab = make_lab()  # noqa: F811
    lab.start_server()
    spool = lab.state / "spool" / "w1"
    thief = another_user.start_python(HOLD, name_on_host("keeper", os.path.realpath(spool)))
    lab.start_worker("w1", wait=False)
    wait_for(
        "the worker says why",
        lambda: "the keeper's address is held by a process of another user" in lab.worker_log("w1"),
    )
    assert another_user.end(thief).replace(b"told b''\n", b"") == b""
    wait_for("the worker has a keeper once it is free", lambda: lab.worker_state("w1") == "connected")
    lab.wait_state(lab.submit("true"), "succeeded")
    assert lab.worker_log("w1").count("another user") == 1


@two_users
@pytest.mark.parametrize("listens", [True, False])
def test_a_worker_s_lock_that_another_user_holds_is_told_from_one_of_ours(
    make_lab: Callable[..., Lab],  # noqa: F811
    listens: bool,
) -> None:
    lab = make_lab()  # noqa: F811
    program = HOLD if listens else HOLD.replace("sock.listen()", "pass")
    address = name_on_host("agent", os.path.realpath(lab.state / "spool" / "local"))
    thief = another_user.start_python(program, address)
    try:
        code, said = failing(lab, "kueue_worker", "--name", "local")
        assert code == 2
        assert "a process of another user holds the place of a worker named local" in said
    finally:
        another_user.end(thief)
    lab.start_server()
    lab.start_worker("local")
    for _ in range(3):  # however often somebody asks
        code, said = failing(lab, "kueue_worker", "--name", "local")
        assert (code, "runs on this machine already" in said) == (2, True)


@two_users
def test_a_keeper_answers_no_other_user(lab: Lab) -> None:  # noqa: F811
    spool = lab.state / "spool" / "w1"
    stranger = another_user.start_python(ASK, name_on_host("keeper", os.path.realpath(spool)))
    said = another_user.end(stranger)
    assert b"answer b''" in said or b"closed" in said, said
    lab.wait_state(lab.submit("true"), "succeeded")


# ---------------------------------------------------------------- what is left on the disk


def test_whatever_the_umask_nobody_else_can_read_what_is_written(make_lab: Callable[..., Lab]) -> None:  # noqa: F811
    lab = make_lab(worker="worker_max_parallel_jobs = 2")  # noqa: F811
    before = os.umask(0)
    try:
        lab.start_server()
        lab.start_worker("w1")
    finally:
        os.umask(before)
    lab.ok("cmd", "--wait", "--", "sh", "-c", "echo to a file of the spool; echo two >&2")
    lab.ok("backup", str(lab.place / "copy.sqlite"))
    found = [lab.state, *lab.state.rglob("*"), lab.place / "copy.sqlite"]
    names = {path.name for path in found}
    assert {"journal.sqlite", "owner", "1.1.out", "1.1.err", "keeper.log"} <= names
    wide = {str(path): oct(path.lstat().st_mode) for path in found if path.lstat().st_mode & 0o077}
    assert not wide

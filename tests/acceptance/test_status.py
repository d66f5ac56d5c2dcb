"""`kueue status`."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for


def test_all_is_on_one_screen(lab: Lab) -> None:
    lab.ok("cmd", "--wait", "true")
    text = lab.ok("status")
    lines = dict(line.split(None, 1) for line in text.splitlines())
    assert lines["configuration"] == str(lab.config)
    assert lines["state"].startswith(f"{lab.state} (")
    assert (
        f"at 127.0.0.1:{lab.port} (pid {lab.server_process.pid if lab.server_process else 0} on"
        in lines["server"]
    )
    assert lines["journal"].endswith(f" in {lab.state}")
    assert lines["workers"].startswith("1 connected; 0 of ")
    assert lines["jobs"].startswith("1 job: 1 succeeded")
    assert "warnings" not in text
    assert len(text.splitlines()) < 24


def test_each_step_on_the_way_is_tried(lab: Lab) -> None:
    found = [line.split()[:2] for line in lab.ok("status", "--check").splitlines() if line.startswith("  ")]
    assert found == [["ok", "address"], ["ok", "connection"], ["ok", "TLS"], ["ok", "secret"]]


def test_without_a_server_it_says_how_far_one_gets(lab: Lab) -> None:
    lab.kill_server()
    done = lab.kueue("status")
    assert done.returncode == 3
    said = done.stdout.decode()
    assert "  ok  address" in said
    assert f"  no  connection  no server at 127.0.0.1:{lab.port} (connection refused)" in said


def test_with_another_secret_it_is_the_secret(lab: Lab) -> None:
    lab.config.write_text(lab.config.read_text().replace(SECRET, f"another-{SECRET}"))
    done = lab.kueue("status")
    assert done.returncode == 3
    steps = [line.split()[:2] for line in done.stdout.decode().splitlines() if line.startswith("  ")]
    assert steps[-2:] == [["ok", "TLS"], ["no", "secret"]]
    assert b"shared_secret differs" in done.stdout


def test_what_wants_attention_comes_with_its_remedy(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(server="worker_timeout_seconds = 3")
    lab.start_server()
    assert "no worker is connected; start kueue_worker" in lab.ok("status")
    lab.start_worker("w1")
    assert "warnings" not in lab.ok("status")
    lab.agents["w1"].kill()
    wait_for("it is missed", lambda: lab.worker_state("w1") == "silent")
    assert "  worker w1 has not been heard of for " in lab.ok("status")

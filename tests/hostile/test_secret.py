"""The shared secret: nothing of it is ever written, shown or handed on; it can be changed while jobs run."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from kueue import AuthenticationError, __version__
from kueue.config import load_config
from kueue.errors import ConfigError
from kueue.wire import handshake
from kueue.wire.framing import frame
from kueue.wire.proof import HANDSHAKE_VERSION, proof
from kueue.wire.tls import server_context
from tests.acceptance.conftest import lab, make_lab  # noqa: F401
from tests.hostile.peers import SECRET, dial, serving
from tests.support import lab as lab_module
from tests.support.gated import gated, go, starts
from tests.support.lab import Lab

OLD = lab_module.SECRET
NEW = "the-next-secret-for-tests-only-9876543210"


def forms(secret: bytes) -> Iterator[bytes]:
    """The ways in which bytes might turn up in a text or a file."""
    yield secret
    yield secret.hex().encode()
    for shift in range(3):  # base64 of it within something longer
        encoded = base64.b64encode(bytes(shift) + secret)
        yield encoded[4 if shift else 0 : -4]


def derived() -> Iterator[bytes]:
    """Whatever would do instead of the secret."""
    prk = hmac.digest(f"kueue handshake {HANDSHAKE_VERSION}".encode(), OLD.encode(), "sha256")
    yield from (OLD.encode(), prk, hashlib.sha256(OLD.encode()).digest())
    for direction in ("client", "server"):
        for role in ("client", "worker"):
            yield hmac.digest(prk, f"{direction} proves to be {role}".encode() + b"\x01", "sha256")


def leaks(text: bytes) -> list[bytes]:
    """What of it is in there."""
    return [form for one in derived() for form in forms(one) if form in text]


def test_leaks_would_be_found() -> None:
    assert leaks(b"x" + OLD.encode() + b"y")
    assert leaks(base64.b64encode(b'{"secret": "' + OLD.encode() + b'"}'))
    assert leaks(OLD.encode().hex().encode())


def test_nothing_of_the_secret_is_in_a_log_a_file_an_argument_an_environment_or_an_output(
    make_lab: Callable[..., Lab],  # noqa: F811
) -> None:
    """A real run with all there is to say in the logs: jobs, failures, a wrong secret, a reload, an upgrade."""
    lab = make_lab(common='log_level = "trace"', worker="worker_max_parallel_jobs = 4")  # noqa: F811
    said: list[bytes] = []
    lab.start_server()
    lab.start_worker("w1")
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    telling = lab.submit("sh", "-c", "env; cat /proc/self/environ /proc/$PPID/environ /proc/$PPID/cmdline")
    lab.wait_state(telling, "succeeded", "failed")
    wrong = lab.place / "wrong.toml"
    wrong.touch(mode=0o600)
    wrong.write_text(lab.config.read_text().replace(OLD, "w" * 40))
    for words, env in (
        (("show-job", str(telling), "--json"), {}),
        (("logs", str(telling)), {}),
        (("reload",), {}),
        (("cmd", "no-such-program"), {}),
        (("list-jobs",), {"KUEUE_CONFIG": str(wrong)}),
        (("backup", str(lab.place / "copy.sqlite")), {}),
    ):
        done = lab.kueue(*words, env=env)
        said += [done.stdout, done.stderr]
    lab.agents["w1"].send_signal(signal.SIGUSR2)
    lab.agents["w1"].wait(30)
    lab.start_worker("w1")
    programs = [lab.agents["w1"].pid, *lab.keeper_pids(), *lab.jobs_processes()]
    assert lab.server_process is not None
    assert len(programs) >= 3
    for pid in (lab.server_process.pid, *programs):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(FileNotFoundError):  # of a job, maybe, that has just ended
                said.append((Path("/proc") / str(pid) / name).read_bytes())
    files = [path for path in lab.place.rglob("*") if path.is_file() and path not in (lab.config, wrong)]
    assert {"server.log", "w1.log", "keeper.log", "journal.sqlite", "copy.sqlite"} <= {p.name for p in files}
    said += [path.read_bytes() for path in files]
    assert any(b"wrong proof" in text for text in said)
    assert any(b"KUEUE_JOB_ID" in text for text in said)
    assert not [(text[:100], found) for text in said if (found := leaks(text))]


async def test_no_proof_or_nonce_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[bytes] = []
    real = proof

    def noting(*parts: object) -> bytes:
        mac = real(*parts)  # type: ignore[arg-type]
        made.extend([mac, *(part for part in parts if isinstance(part, bytes) and len(part) == 32)])
        return mac

    monkeypatch.setattr(handshake, "proof", noting)
    errors: list[str] = []
    with caplog.at_level(1):
        async with serving(tmp_path) as served:
            async with served.client() as client:
                await client.submit(["true"])
            with pytest.raises(AuthenticationError) as caught:
                await served.client("w" * 40).connect()
            errors.append(f"{caught.value!r} {caught.value.__cause__!r}")
            async with await dial(served.port) as peer:
                peer.writer.write(frame(b"x" * 100))
                await peer.rest()
    assert len(made) >= 8
    text = "\n".join([caplog.text, *errors]).encode()
    assert b"wrong proof" in text
    assert not [form for one in made for form in forms(one) if form in text]
    assert not [form for form in forms(SECRET.encode()) if form in text]


@pytest.mark.parametrize(
    "line",
    [
        f'shared_secret = "{OLD}',
        f'shared_secret = "{OLD}" x',
        f'shared_secret = ["{OLD}"]',
        f'shared_secret = "{OLD}"\nshared_secret = "{OLD}"',
        f'shared_secret = "{OLD}"\nprevious_secrets = "{OLD}"',
        f'shared_secret = "{OLD}"\nprevious_secrets = ["{OLD}", 1]',
        f'shared_secret = "{OLD}"\nserver_port = 0',
        f"shared_secret = '{OLD[:10]}'",
        f'shared_secrets = "{OLD}"',
        f'shared_sceret = "{OLD}"',
        f'shared_secret = "{OLD}"\n[server_settings]\nprevious_sceret = ["{OLD}"]',
    ],
)
def test_no_complaint_about_a_configuration_quotes_the_secret(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f"[common_settings]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert OLD[:10] not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_a_configuration_that_is_shown_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f'[common_settings]\nshared_secret = "{OLD}"\nprevious_secrets = ["{NEW}"]\n')
    config = load_config(path)
    for shown in (repr(config), str(config), repr(config.common_settings), f"{config.model!s}"):
        assert OLD not in shown
        assert NEW not in shown


def test_a_fresh_secret_is_random_and_long(tmp_path: Path) -> None:
    made = set()
    for number in range(3):
        path = tmp_path / str(number) / "config.toml"
        os.environ["KUEUE_CONFIG"] = str(path)
        try:
            made.add(load_config().common_settings.shared_secret)
        finally:
            del os.environ["KUEUE_CONFIG"]
    assert len(made) == 3
    assert {len(base64.urlsafe_b64decode(secret)) for secret in made} == {48}


def test_a_server_s_private_key_is_never_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it could stand between, though he has no secret."""
    place = tmp_path / "temporary"
    place.mkdir(mode=0o500)
    before = place.stat().st_mtime_ns
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    _, der = server_context()
    assert der
    assert place.stat().st_mtime_ns == before


# ---------------------------------------------------------------- changing it


def set_secrets(lab: Lab, current: str, previous: list[str]) -> None:  # noqa: F811
    """What a person does with an editor."""
    text = re.sub(r"(?m)^(shared_secret|previous_secrets) = .*\n", "", lab.config.read_text())
    before = f'[common_settings]\nshared_secret = "{current}"\nprevious_secrets = {previous!r}\n'
    lab.config.write_text(text.replace("[common_settings]\n", before))


def test_the_secret_is_changed_as_documented_and_no_job_is_disturbed(lab: Lab) -> None:  # noqa: F811
    """`docs/security.md`, "Changing the secret", by the letter."""
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    waiter = lab.start_client("waiter", "wait-job", str(running))
    set_secrets(lab, OLD, [NEW])
    assert "previous_secrets changed" in lab.ok("reload")
    set_secrets(lab, NEW, [OLD])
    assert "shared_secret is another one" in lab.ok("reload")
    lab.agents["w1"].send_signal(signal.SIGUSR2)
    assert lab.agents["w1"].wait(30) == 0
    lab.start_worker("w1")
    assert lab.state_of(running) == "running"
    set_secrets(lab, NEW, [])
    assert "previous_secrets changed" in lab.ok("reload")
    with_old = lab.place / "old.toml"
    with_old.touch(mode=0o600)
    with_old.write_text(lab.config.read_text().replace(NEW, OLD))
    refused = lab.kueue("list-jobs", env={"KUEUE_CONFIG": str(with_old)})
    assert refused.returncode == 3
    assert b"shared_secret differs" in refused.stderr
    go(lab, "a")
    done = lab.wait_state(running, "succeeded")
    assert (done["attempt"], starts(lab, "a")) == (1, ["1"])
    waiter.kill()


async def test_who_came_with_a_secret_that_is_taken_back_is_shut_out_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stolen secret is of no use any more as soon as the server has reloaded, also to those inside."""
    async with serving(tmp_path) as served:
        async with await dial(served.port) as thief, await dial(served.port) as worker:
            await thief.authenticate("client")
            await worker.authenticate("worker")
            text = served.config.read_text()
            served.config.write_text(text.replace(SECRET, NEW) + f'previous_secrets = ["{SECRET}"]\n')
            served.server.reload()
            async with served.client(NEW) as client:
                assert (await client.server_info()).version == __version__
                thief.send(msgspec.defstruct("ServerInfo", [("rid", int)], tag="server_info")(1))
                assert (await thief.read_until("server_state"))["rid"] == 1
                served.config.write_text(text.replace(SECRET, NEW))
                with caplog.at_level(logging.WARNING):
                    served.server.reload()
                for peer in (thief, worker):
                    assert b"offer" not in await peer.rest()
                assert (await client.server_info()).version == __version__
                with pytest.raises(AuthenticationError):
                    await served.client(SECRET).connect()
        assert "secret that is not accepted any more" in caplog.text

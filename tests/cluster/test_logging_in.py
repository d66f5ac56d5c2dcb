"""How the supervisor logs in: keys, `~/.ssh/config`, host keys, login shells, log-outs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.cluster.desk import Desk
from tests.cluster.hosts import DESK, HOME
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(300)
QUICK = "connect_timeout_seconds = 20\nrestart_server = false"
SHELLS = {
    "bash": ".bashrc",
    "dash": ".profile",
    "zsh": ".zshenv",
    "tcsh": ".cshrc",
    "fish": ".config/fish/config.fish",
}


def test_login_shells_of_every_kind_and_what_they_print_make_no_difference(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", supervisor=QUICK)
    for shell, start_file in SHELLS.items():
        desk.hosts.write_home(start_file, 'echo "welcome, {not an answer}"\n')
        desk.hosts.set_shell("rax01", f"/usr/bin/{shell}")
        row = desk.rows("--status", code=1)["rax01"]
        assert row["error"] == "no worker", shell
    desk.hosts.set_shell("rax01", "/usr/sbin/nologin")
    row = desk.rows("--status", code=1)["rax01"]
    assert row["error"] == "its login shell ended: This account is currently not available."
    assert row["reachable"] is True


def test_unknown_hosts_are_refused_whatever_a_configuration_says(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", "rax02", supervisor=QUICK)
    desk.hosts.write_home(".ssh/known_hosts", "")
    desk.hosts.write_home(
        ".ssh/config",
        "Host rax01\n  StrictHostKeyChecking no\nHost *\n  UserKnownHostsFile none\n  StrictHostKeyChecking off\n",
    )
    rows = desk.rows("--once", code=1)
    for name in desk.names:
        assert (
            rows[name]["error"] == f"its host key is not known; compare and accept it once: ssh {name} true"
        )
        assert not desk.hosts.agents(name)
    assert (desk.hosts.home / ".ssh" / "known_hosts").read_text() == ""

    desk.hosts.know_hosts()
    desk.write_config(supervisor=QUICK + '\nknown_hosts = "~/.ssh/known_hosts"')
    assert desk.rows("--status", code=1)["rax01"]["error"] == "no worker"


def test_the_ssh_configuration_names_address_port_account_key_and_the_way_there(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", "rax02", supervisor=QUICK)
    hosts = desk.hosts
    # rax02's own network is seen from rax01 only through the desk; what matters is whose connection arrives there.
    (hosts.home / ".ssh" / "id_ed25519").rename(hosts.home / ".ssh" / "elsewhere")
    hosts.write_home(
        ".ssh/config",
        "Host far\n  HostName rax02\n  HostKeyAlias rax02\n  User lab\n  Port 22\n  ProxyJump near\n"
        "Host near\n  HostName rax01\n  HostKeyAlias rax01\n"
        "Host *\n  IdentityFile ~/.ssh/elsewhere\n",
    )
    desk.write_config(supervisor=QUICK, names="far near")
    hosts.as_root(DESK, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    rows = desk.rows("--status", code=1)
    assert rows["far"]["error"] == rows["near"]["error"] == "no worker", rows

    hosts.cut("rax01")
    desk.write_config(supervisor=QUICK.replace("20", "3"), names="far")
    assert "no answer from near, which is gone through" in desk.rows("--status", code=1)["far"]["error"]


def test_a_key_with_a_passphrase_is_used_by_the_agent_and_else_named_with_two_ways_out(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", supervisor=QUICK)
    hosts = desk.hosts
    key = f"{HOME}/.ssh/id_ed25519"
    hosts.run(DESK, "ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", key)
    done = desk.supervise("--once", check=False)
    assert done.returncode == 1
    assert f"it takes none of our keys: {key} has a passphrase and no ssh agent has it; either" in done.stdout
    assert "ssh-add" in done.stdout
    assert "ssh-keygen" in done.stdout
    quiet = desk.supervise("--once", "--quiet", check=False)
    assert key in quiet.stdout, "silent for ever would be no help"

    socket = f"{HOME}/agent"
    agent = hosts.start(DESK, "ssh-agent", "-D", "-a", socket, stdout=subprocess.DEVNULL)
    try:
        wait_for("the agent listens", lambda: (hosts.home / "agent").exists())
        hosts.write_home("ask", "#!/bin/sh\necho open sesame\n", 0o700)
        asking = {"SSH_AUTH_SOCK": socket, "SSH_ASKPASS": f"{HOME}/ask", "SSH_ASKPASS_REQUIRE": "force"}
        hosts.run(DESK, "ssh-add", key, environment=asking)
        rows = desk.rows("--status", code=1, environment={"SSH_AUTH_SOCK": socket})
        assert rows["rax01"]["error"] == "no worker"
    finally:
        agent.terminate()
        agent.wait()


def test_keys_that_are_not_taken_are_one_line_and_passwords_are_never_tried(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", supervisor=QUICK)
    hosts = desk.hosts
    hosts.write_home(".ssh/authorized_keys", "")
    # From now on it would take a password, too.
    change = "s/^PasswordAuthentication no/PasswordAuthentication yes/; s/^LogLevel .*/LogLevel VERBOSE/"
    hosts.as_root("rax01", "sed", "-i", change, "/run/sshd/sshd_config")
    hosts.as_root("rax01", "kill", "-HUP", "1")
    console = hosts.hosts["rax01"].files / "console"
    wait_for("it has read that", lambda: "Server listening" in console.read_text())
    ask = ("ssh", "-v", "-o", "BatchMode=yes", "rax01", "true")
    assert (
        "Authentications that can continue: publickey,password" in hosts.run(DESK, *ask, check=False).stderr
    )
    row = desk.rows("--status", code=1)["rax01"]
    assert "Failed publickey" in console.read_text()
    assert "Failed password" not in console.read_text()
    assert "Failed none" not in console.read_text()
    assert (
        row["error"]
        == f"it takes none of our keys: put one there, with ssh-copy-id -i {HOME}/.ssh/id_ed25519 HOST"
    )
    assert row["reachable"] is False


def test_a_log_out_that_ends_what_a_user_leaves_is_noticed(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    hosts.as_root("rax01", "mkdir", "-p", "/run/systemd/logind.conf.d")
    settings = "/run/systemd/logind.conf.d/lab.conf"
    hosts.as_root("rax01", "sh", "-c", f"printf '[Login]\\nKillUserProcesses=yes\\n' > {settings}")
    # What logind does: with the last session of a user, all processes of his.
    watch = (
        'while :; do if [ -e /run/seen ] && ! pgrep -f "^sshd: lab" >/dev/null;'
        " then pkill -KILL -u lab; rm -f /run/seen; fi;"
        ' if pgrep -f "^sshd: lab" >/dev/null; then touch /run/seen; fi; sleep 0.1; done'
    )
    pid = str(hosts.hosts["rax01"].pid)
    inside = ["nsenter", "--target", pid, "--pid", "--mount", "sh", "-c", watch]
    logind = subprocess.Popen(inside)
    try:
        row = desk.rows("--once", code=1)["rax01"]
    finally:
        logind.kill()
        logind.wait()
    assert row["error"].startswith("the worker was gone as soon as we had logged out")
    assert row["error"].endswith("KillUserProcesses of logind); run there once: loginctl enable-linger")
    assert row["done"] is None


@pytest.mark.parametrize(
    ("missing", "tool", "done"),
    [
        (["screen"], "tmux", "started in tmux"),
        (["screen", "tmux"], "", "started by itself (no screen, no tmux)"),
    ],
)
def test_without_screen_there_is_tmux_and_without_both_a_process_by_itself(
    make_desk: Callable[..., Desk], missing: list[str], tool: str, done: str
) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    for name in missing:
        hosts.as_root("rax01", "mount", "--bind", "/dev/null", f"/usr/bin/{name}")
    if tool:
        hosts.run("rax01", tool, "new-session", "-d", "-s", "kueue_worker", "sleep", "600")
    row = desk.rows("--once")["rax01"]
    assert row["done"] == done
    assert row["connected"]
    if tool:
        assert len(hosts.run("rax01", "tmux", "list-sessions").stdout.splitlines()) == 2
    assert "connected to the server" in desk.worker_log("rax01")
    assert desk.rows("--once")["rax01"]["done"] is None


def test_a_worker_that_ends_at_once_is_told_with_its_own_last_line(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", "rax02", supervisor="connect_timeout_seconds = 20")
    desk.write_config(supervisor=QUICK + '\nworker_command = "~/no/such/kueue_worker"')
    row = desk.rows("--once", code=1)["rax01"]
    assert row["error"] == "there is no program ~/no/such/kueue_worker; worker_command may name another"
    desk.hosts.write_home(
        "fails", "#!/bin/sh\necho kueue_worker: the licence is on the moon; exit 7\n", 0o755
    )
    desk.write_config(supervisor=QUICK + "\nworker_command = \"~/fails --name 'a b;$(id)'\"")
    row = desk.rows("--once", code=1)["rax01"]
    assert row["error"].startswith("the worker ended at once: the licence is on the moon (log: ")


def test_the_crontab_gets_its_lines_once_and_keeps_what_was_there(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", supervisor=QUICK)
    hosts = desk.hosts
    hosts.run(DESK, "crontab", "-", text="# mine\n5 4 * * * true\n")
    before = hosts.run(DESK, "crontab", "-l").stdout
    for _ in range(2):
        desk.supervise("--install-cron")
        lines = hosts.run(DESK, "crontab", "-l").stdout.removeprefix(before).splitlines()
        assert [line.split()[0] for line in lines] == ["@reboot", "0"]
    command = lines[1].split(maxsplit=5)[5]
    done = hosts.run(DESK, "/bin/sh", "-c", command, check=False, environment={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, "")
    assert hosts.agents("rax01")
    assert "started in screen" in done.stdout
    done = hosts.run(DESK, "/bin/sh", "-c", command, environment={"PATH": "/usr/bin:/bin"})
    assert (done.stdout, done.stderr) == ("", "")
    stopped = desk.supervise("--stop")
    assert "--remove-cron takes it out" in stopped.stderr
    desk.supervise("--remove-cron")
    assert hosts.run(DESK, "crontab", "-l").stdout == before

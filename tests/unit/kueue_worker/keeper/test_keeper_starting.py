"""How jobs are started: what they find, where their output goes, and what is said when they can't be."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import Agent, KeeperProcess, base_environment


def test_a_job_is_told_to_have_started_and_ended_with_what_it_used(agent: Agent) -> None:
    key = agent.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    started, ended = agent.started(key), agent.ended(key)
    assert started["pid"] > 0
    assert (ended["end"], ended["status"], ended["code"], ended["text"]) == ("exited", 0, "", "")
    assert ended["started"] == started["started"] <= ended["ended"]
    assert 0 < ended["cpu_seconds"] <= ended["ended"] - ended["started"] + 1
    assert ended["peak_kb"] > 100


@pytest.mark.parametrize("code", [1, 3, 255])
def test_exit_codes_are_told_as_raw_statuses(agent: Agent, code: int) -> None:
    ended = agent.run(["/bin/sh", "-c", f"exit {code}"])
    assert (ended["end"], os.waitstatus_to_exitcode(ended["status"])) == ("exited", code)


def test_a_signal_that_was_not_ours_is_told_as_its_own_end(agent: Agent) -> None:
    ended = agent.run(["/bin/sh", "-c", "kill -SEGV $$"])
    assert (ended["end"], os.WTERMSIG(ended["status"])) == ("exited", signal.SIGSEGV)


def test_peak_memory_is_that_of_the_job(agent: Agent) -> None:
    ended = agent.run(["/bin/sh", "-c", "head -c 60000000 /dev/zero | tail -c 60000000 >/dev/null"])
    assert 55_000 < ended["peak_kb"] < 500_000


# ---------------------------------------------------------------- output


def test_output_goes_to_new_files_for_this_user_only(agent: Agent, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    out.write_text("something old")
    key = agent.shell("echo to out; echo to err >&2", out={"path": str(out)}, err={"path": str(err)})
    agent.ended(key)
    assert (out.read_text(), err.read_text()) == ("to out\n", "to err\n")
    assert stat.S_IMODE(err.stat().st_mode) == 0o600


def test_an_unfriendly_umask_does_not_make_output_unreadable(agent: Agent, tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"{number}.out"
        agent.ended(agent.shell("echo x", out={"path": str(path)}, umask=0o777))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_directories_of_the_spool_come_into_being(agent: Agent) -> None:
    path = agent.keeper.spool / "journal" / "17" / "17000.1.out"
    agent.ended(agent.shell("echo x", out={"path": str(path)}))
    assert path.read_text() == "x\n"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_both_streams_can_be_one_description(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "both"
    agent.ended(agent.shell("echo one; echo two >&2; echo three", out={"path": str(path)}, err="out"))
    assert path.read_text() == "one\ntwo\nthree\n"


def test_output_goes_to_passed_descriptors_in_the_order_of_the_message(agent: Agent, tmp_path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptors = [os.open(tmp_path / name, flags, 0o644) for name in ("out", "err")]
    key = agent.shell("echo out; echo err >&2", out={"fd": True}, err={"fd": True}, descriptors=descriptors)
    agent.ended(key)
    assert (tmp_path / "out").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"


def test_descriptors_of_many_jobs_in_one_frame_are_not_mixed_up(agent: Agent, tmp_path: Path) -> None:
    orders, descriptors = [], []
    for number in range(100):
        descriptors += [
            os.open(tmp_path / f"{number}.{name}", os.O_WRONLY | os.O_CREAT) for name in ("o", "e")
        ]
        orders.append(
            agent.order(
                ["/bin/sh", "-c", f"echo {number}; echo -{number} >&2"], out={"fd": True}, err={"fd": True}
            )
        )
    agent.send(*orders, descriptors=descriptors)
    for order in orders:
        agent.ended(order["key"])
    for number in range(100):
        assert (tmp_path / f"{number}.o").read_text() == f"{number}\n"
        assert (tmp_path / f"{number}.e").read_text() == f"-{number}\n"


def test_discarded_output_and_input_are_the_null_device(agent: Agent) -> None:
    assert agent.output("readlink /proc/self/fd/0") == "/dev/null\n"
    script = 'test "$(readlink /proc/$$/fd/1)" = /dev/null && test "$(readlink /proc/$$/fd/2)" = /dev/null'
    assert agent.run(["/bin/sh", "-c", script])["status"] == 0


def test_a_job_inherits_three_descriptors_and_no_more(agent: Agent, tmp_path: Path) -> None:
    agent.directory(tmp_path)
    assert agent.output("ls /proc/$$/fd").split() == ["0", "1", "2"]


@pytest.mark.parametrize("name", ["missing/out", ".", "link"])
def test_output_that_can_not_be_written_is_no_start(agent: Agent, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    ended = agent.run(["/bin/true"], out={"path": f"{tmp_path}/{name}"})
    assert (ended["end"], ended["status"], ended["started"]) == ("not_started", None, None)
    assert ended["code"] == "output"
    assert ended["text"].startswith(f"cannot write {tmp_path}/{name}: ")


def test_no_descriptor_stays_open_in_the_keeper(agent: Agent, tmp_path: Path) -> None:
    assert agent.keeper.process is not None
    place = f"/proc/{agent.keeper.process.pid}/fd"
    agent.run(["/bin/true"], out={"path": f"{tmp_path}/o"}, err={"path": f"{tmp_path}/e"})
    before = os.listdir(place)
    for program in ("/bin/true", "/no/such/program"):
        for env in ("base", "never heard of"):
            key = agent.spawn(
                [program],
                env=env,
                out={"fd": True},
                err={"path": f"{tmp_path}/e"},
                descriptors=[os.open("/dev/null", os.O_WRONLY)],
            )
            if env == "base":
                agent.ended(key)
    agent.ping()
    assert os.listdir(place) == before


# ---------------------------------------------------------------- surroundings


def test_the_environment_is_what_was_sent_and_the_fence(agent: Agent) -> None:
    agent.environment({"A": "1", "B": "2", "PATH": "/usr/bin:/bin"}, "other")
    order = agent.order(["/usr/bin/env"], env="other", extra=[["B", "3"], ["C", "ü \udcff"]])
    out = agent.keeper.spool / "out"
    agent.send({**order, "out": {"path": str(out)}})
    agent.ended(order["key"])
    fence = f"KUEUE_FENCE={order['key']}".encode()
    expected = {b"A=1", b"B=3", b"PATH=/usr/bin:/bin", b"C=\xc3\xbc \xff", fence}
    assert set(out.read_bytes().splitlines()) == expected


def test_an_environment_that_was_forgotten_is_asked_for(agent: Agent) -> None:
    agent.order(["/bin/true"])  # has its own environment sent, the oldest
    agent.environment(base_environment(), "first")
    for number in range(255):
        agent.environment({}, f"later {number}")
    assert agent.run(["/bin/true"], env="first")["status"] == 0  # a use keeps it
    for number in range(255, 510):
        agent.environment({}, f"later {number}")
    assert agent.run(["/bin/true"], env="first")["status"] == 0
    for number in range(510, 766):
        agent.environment({}, f"later {number}")
    key = agent.spawn(["/bin/true"], env="first")
    agent.until("no_env", lambda told: {"m": "no_env", "key": key, "id": "first"} in told)
    agent.environment(base_environment(), "first")
    order = agent.order(["/bin/true"], env="first", key=key)
    agent.send(order)
    assert agent.ended(key)["status"] == 0


def test_arguments_that_are_not_utf8_arrive_as_they_were(agent: Agent) -> None:
    out = agent.keeper.spool / "out"
    argv: list[str | bytes] = ["/bin/sh", "-c", 'printf %s "$1"', "sh", b"caf\xe9 \xff"]
    agent.ended(agent.spawn(argv, out={"path": str(out)}))
    assert out.read_bytes() == b"caf\xe9 \xff"


def test_umask_is_the_job_s_or_the_one_that_the_keeper_came_with(agent: Agent) -> None:
    ours = os.umask(0o022)
    os.umask(ours)
    assert agent.output("umask", umask=0o027) == "0027\n"
    assert int(agent.output("umask"), 8) == ours


def test_soft_limits_are_the_job_s_and_not_the_keeper_s(agent: Agent) -> None:
    script = "ulimit -Sn; ulimit -Sc; ulimit -Hn"
    hard = agent.output("ulimit -Hn").strip()
    assert agent.output(script, limits={"nofile": 64, "core": 0}).split() == ["64", "0", hard]
    # Those that would end the keeper are set right after the start, so the job has to wait for them.
    wait = "while [ $(ulimit -Sv) = unlimited ]; do sleep 0.01; done; ulimit -Sv; ulimit -St"
    limits = {"as": 4 * 2**30, "cpu": 1000, "unheard_of": 5}
    assert agent.output(wait, limits=limits).split() == [str(4 * 2**20), "1000"]
    assert agent.output("ulimit -Sv; ulimit -St").split() == ["unlimited", "unlimited"]


def test_the_keeper_s_own_wish_for_files_is_not_passed_on(keeper: KeeperProcess, agent: Agent) -> None:
    assert keeper.process is not None
    lines = Path(f"/proc/{keeper.process.pid}/limits").read_text().splitlines()
    soft, hard = next(line.split()[3:5] for line in lines if line.startswith("Max open files"))
    assert soft == hard
    ours = next(
        line.split()[3]
        for line in Path("/proc/self/limits").read_text().splitlines()
        if line.startswith("Max open files")
    )
    assert agent.output("ulimit -Sn").strip() == ours


def test_the_directory_is_entered_by_its_descriptor(agent: Agent, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    number = agent.directory(place)
    place.rename(tmp_path / "moved")
    assert agent.output("pwd -P", dir=number) == f"{tmp_path / 'moved'}\n"
    assert agent.output("pwd -P") == f"{agent.keeper.spool}\n"


def test_the_keeper_stays_in_no_job_s_directory(agent: Agent, tmp_path: Path) -> None:
    assert agent.keeper.process is not None
    agent.run(["/bin/true"], dir=agent.directory(tmp_path))
    assert os.readlink(f"/proc/{agent.keeper.process.pid}/cwd") == "/"


def test_a_directory_that_was_closed_is_no_start(agent: Agent, tmp_path: Path) -> None:
    number = agent.directory(tmp_path)
    agent.send({"m": "undir", "id": number})
    ended = agent.run(["/bin/true"], dir=number)
    assert (ended["end"], ended["code"]) == ("not_started", "no_directory")


def test_a_directory_that_was_removed_is_no_start(agent: Agent, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    number = agent.directory(place)
    place.rmdir()
    ended = agent.run(["/bin/true"], dir=number)
    assert (ended["end"], ended["code"]) == ("not_started", "no_directory")


def test_signals_are_as_from_a_shell_though_the_keeper_ignores_some(agent: Agent) -> None:
    text = agent.output("grep -E 'SigBlk|SigIgn' /proc/self/status")
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}
    assert masks["SigBlk"] == 0
    ignored = {number for number in range(1, 32) if masks["SigIgn"] >> (number - 1) & 1}
    assert ignored == set()


def test_a_job_is_the_leader_of_a_session_of_its_own(agent: Agent) -> None:
    key = agent.shell("sleep 1000")
    pid = agent.started(key)["pid"]
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


def test_a_job_is_nicer_and_dies_sooner_of_memory_than_the_keeper(agent: Agent) -> None:
    assert agent.keeper.process is not None
    own = Path(f"/proc/{agent.keeper.process.pid}/oom_score_adj").read_text()
    key = agent.shell("sleep 1000", nice=7, oom=600)
    pid = agent.started(key)["pid"]
    wait_for("it is nice", lambda: os.getpriority(os.PRIO_PROCESS, pid) == 7)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "600\n"
    assert Path(f"/proc/{agent.keeper.process.pid}/oom_score_adj").read_text() == own
    assert agent.output("cat /proc/self/oom_score_adj") == own


# ---------------------------------------------------------------- programs


def test_argv0_is_the_job_s_and_the_program_may_be_relative(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "tool").symlink_to("/bin/sh")
    out = tmp_path / "out"
    order = agent.order(
        ["my-name", "-c", "echo $0"], program="./tool", dir=agent.directory(tmp_path), out={"path": str(out)}
    )
    agent.send(order)
    agent.ended(order["key"])
    assert out.read_text() == "my-name\n"


@pytest.mark.parametrize("program", ["./script", "script"])
def test_a_script_without_an_interpreter_runs_in_the_shell(
    agent: Agent, tmp_path: Path, program: str
) -> None:
    script, out = tmp_path / "script", tmp_path / "out"
    script.write_text('echo "$1 and $2"\n')
    script.chmod(0o755)
    order = agent.order(
        ["called", "a", "b"], program=program, dir=agent.directory(tmp_path), out={"path": str(out)}
    )
    agent.send(order)
    assert agent.ended(order["key"])["status"] == 0
    assert out.read_text() == "a and b\n"


def test_programs_that_can_not_be_run_are_no_start_and_say_why(agent: Agent, tmp_path: Path) -> None:
    plain, script = tmp_path / "plain", tmp_path / "script"
    plain.write_text("")
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    missing = "no such file, or the interpreter in its first line is missing"
    for program, text in (
        (f"{tmp_path}/none", missing),
        (str(script), missing),
        (str(plain), "not executable (chmod +x)"),
        (f"{plain}/none", "no such file"),
    ):
        ended = agent.run([program])
        assert (ended["end"], ended["code"]) == ("not_started", "no_program")
        assert ended["text"] == f"{program}: {text}"


def test_a_command_that_is_too_long_is_no_start(agent: Agent) -> None:
    ended = agent.run(["/bin/true", "x" * 200_000])
    assert (ended["end"], ended["code"]) == ("not_started", "spawn")
    assert ended["text"] == "the command and its environment are too long"


def test_a_nul_byte_is_no_start_and_harms_nobody(agent: Agent) -> None:
    assert agent.run(["/bin/true", "a\0b"])["code"] == "spawn"
    assert agent.run(["/bin/true"], program="/bin/tr\0ue")["code"] == "spawn"
    assert agent.run(["/bin/true"], out={"path": "/tmp/a\0b"})["code"] == "output"
    assert agent.run(["/bin/true"])["status"] == 0


def test_the_same_key_twice_is_answered_and_starts_once(agent: Agent, tmp_path: Path) -> None:
    count = tmp_path / "count"
    order = agent.order(["/bin/sh", "-c", f"echo x >> {count}; sleep 0.2"])
    agent.send(order, order)
    pid = agent.started(order["key"])["pid"]
    agent.told.clear()
    agent.send(order)
    assert agent.started(order["key"])["pid"] == pid
    agent.ended(order["key"])
    agent.told.clear()
    agent.send(order)
    assert agent.ended(order["key"])["status"] == 0
    assert count.read_text() == "x\n"


def test_the_record_is_on_file_before_the_job_runs(agent: Agent) -> None:
    records = agent.keeper.spool / "records.jsonl"
    order = agent.order(["/bin/sh", "-c", f"grep -c '\"key\":\"'$KUEUE_FENCE'\"' {records}"])
    out = agent.keeper.spool / "out"
    agent.send({**order, "out": {"path": str(out)}})
    agent.ended(order["key"])
    assert int(out.read_text()) >= 1


def test_three_hundred_jobs_at_once(agent: Agent) -> None:
    orders = [
        agent.order(["/bin/sh", "-c", f"sleep 0.2; exit {number % 50}"], out={"path": f"/tmp/{number}"})
        for number in range(300)
    ]
    for order in orders:
        order["out"] = {"path": f"{agent.keeper.spool}/j/0/{order['key'].split('/')[2]}.1.out"}
    agent.send(*orders)
    for number, order in enumerate(orders):
        assert os.waitstatus_to_exitcode(agent.ended(order["key"])["status"]) == number % 50


def test_descriptors_of_another_kind_do_no_harm(agent: Agent) -> None:
    one, other = socket.socketpair()
    key = agent.shell("echo to a socket", out={"fd": True}, descriptors=[one.detach()])
    assert agent.ended(key)["status"] == 0
    other.settimeout(20)
    assert other.recv(100) == b"to a socket\n"
    other.close()

"""The configuration's file: who may read it, where it is, how the first one is made; the template."""

from __future__ import annotations

import itertools
import os
import re
import socket
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from kueue import private_files
from kueue.config import Config, default_config_path, load_config, template_text
from kueue.config_model import ConfigModel, HostSettings, RestartWorkers
from kueue.errors import ConfigError

CONTENT = '[common_settings]\nshared_secret = "only-for-tests-0123456789abcdef"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "config.toml"
    place.touch(mode=0o600)
    place.write_text(CONTENT)
    return place


def fault(path: Path, *, create: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, create=create)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert "\n" not in told
    return told.removeprefix(f"{path}: ")


# ---------------------------------------------------------------- who may read it


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o640, 0o620, 0o644, 0o666, 0o777])
def test_a_file_that_others_can_read_or_change_is_refused_with_the_command_that_mends_it(
    path: Path, mode: int
) -> None:
    path.chmod(mode)
    told = fault(path)
    assert f"mode {mode:04o}" in told
    assert told.endswith(f"chmod 600 {path}")
    subprocess.run(told.rpartition(": ")[2], shell=True, check=True)
    load_config(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_file_is_read(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert load_config(path).path == path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    os.chown(path, 4242, -1)
    assert "belongs to another user (uid 4242)" in fault(path)


def test_root_may_own_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((stat.S_IFREG | 0o600, *[0] * 9)))
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    load_config(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_is_an_error(path: Path) -> None:
    path.chmod(0)
    assert fault(path) == "can't be read: Permission denied"


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    assert fault(tmp_path) == "is a directory; give the path of a file"


def test_a_fifo_does_not_hold_the_program_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert fault(tmp_path / "fifo") == "is not a regular file"


def test_a_path_through_a_file_is_an_error(path: Path) -> None:
    assert fault(path / "config.toml") == "can't be read: Not a directory"


def test_what_is_not_utf_8_is_told_with_its_line(path: Path) -> None:
    path.write_bytes(CONTENT.encode() + b'server_name = "l\xf6we"\n')
    assert fault(path) == "line 3 is not UTF-8"


def test_a_byte_order_mark_and_crlf_are_taken(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + CONTENT.replace("\n", "\r\n").encode())
    load_config(path)


def test_a_giant_file_is_refused(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(100 * 1024 * 1024)
    assert "far too big" in fault(path)


# ---------------------------------------------------------------- where it is


def test_the_environment_names_another_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUEUE_CONFIG", str(path))
    assert default_config_path() == path
    assert load_config().path == path


def test_the_default_is_below_the_user_s_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUEUE_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_config_path() == tmp_path / ".config/kueue/config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert default_config_path() == tmp_path / "xdg/kueue/config.toml"


def test_a_relative_path_is_made_absolute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert load_config("config.toml").path == path


# ---------------------------------------------------------------- the places that follow from it


def with_lines(path: Path, lines: str) -> Config:
    path.write_text(CONTENT + lines)
    return load_config(path)


def test_the_state_directory_is_the_user_s_or_as_configured(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUEUE_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "ralab29.lab.example.org")
    assert with_lines(path, "").state_dir == Path("/home/someone/.local/state/kueue")
    assert with_lines(path, 'state_dir = "~/k/{host}"').state_dir == Path("/home/someone/k/ralab29")
    user = with_lines(path, 'state_dir = "/srv/{user}"').state_dir.name
    assert user
    assert user == subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def test_an_unknown_user_in_a_place_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUEUE_STATE_DIR", raising=False)
    config = with_lines(path, 'state_dir = "~nobody-of-this-name/k"')
    with pytest.raises(ConfigError, match="no such user here"):
        _ = config.state_dir


def test_the_environment_names_another_state_directory_that_holds_the_spool_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUEUE_STATE_DIR", str(tmp_path / "s"))
    config = with_lines(path, 'state_dir = "/srv/kueue"\n')
    assert config.state_dir == tmp_path / "s"
    assert config.spool_dir_for("w1", "ralab04") == tmp_path / "s/spool/w1"
    config = with_lines(path, '[worker_settings]\nspool_dir = "/scratch/kueue"\n')
    assert config.spool_dir_for("w1", "ralab04") == Path("/scratch/kueue/w1")


def test_the_spool_is_on_a_local_disk_by_default_and_differs_by_host(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUEUE_STATE_DIR", raising=False)
    config = with_lines(path, '[worker_settings.hosts."rax*"]\nspool_dir = "/scratch"\n')
    assert config.spool_dir_for("w1", "ralab04") == Path(f"/var/tmp/kueue-{os.getuid()}/w1")
    assert config.spool_dir_for("w1", "rax11") == Path("/scratch/w1")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0b"])
def test_a_worker_s_name_can_t_lead_out_of_the_spool(path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="can't be a worker's name"):
        load_config(path).spool_dir_for(name, "ralab04")


# ---------------------------------------------------------------- the first one


def test_a_first_configuration_is_written_privately_with_a_fresh_secret(tmp_path: Path) -> None:
    first, second = tmp_path / "a/b/config.toml", tmp_path / "c/config.toml"
    config = load_config(first)
    assert config.created
    assert not load_config(first).created
    assert first.stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "a/b").stat().st_mode & 0o7777 == 0o700
    secret = config.common_settings.shared_secret
    assert re.fullmatch(r"[A-Za-z0-9_-]{64}", secret)
    assert load_config(first).common_settings.shared_secret == secret
    assert load_config(second).common_settings.shared_secret != secret
    assert os.listdir(tmp_path / "a/b") == ["config.toml"]


def test_a_reload_does_not_write_a_first_configuration(tmp_path: Path) -> None:
    assert fault(tmp_path / "config.toml", create=False) == "no such file"
    assert os.listdir(tmp_path) == []


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to(tmp_path / "missing.toml")
    assert fault(tmp_path / "config.toml") == "is a link to a file that does not exist"
    assert os.listdir(tmp_path) == ["config.toml"]


def test_what_can_t_be_written_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert fault(tmp_path / "config.toml") == "can't write a first configuration: No space left on device"
    assert os.listdir(tmp_path) == []


STARTER = """
import sys
from kueue.config import load_config
print("ready", flush=True)
sys.stdin.readline()
config = load_config(sys.argv[1])
print(config.common_settings.shared_secret, config.created)
"""


NO_LINKS = """
import os, time
def no_links(*_):
    raise PermissionError(1, "Operation not permitted")
os.link = no_links
is_there = os.path.lexists
def slowly(path):
    found = is_there(path)
    time.sleep(0.1)
    return found
os.path.lexists = slowly
"""
"""A file system without hard links, and a wide gap between the look and the write."""


@pytest.mark.parametrize("links", [True, False])
def test_programs_that_start_at_the_same_time_end_up_with_one_secret(tmp_path: Path, links: bool) -> None:
    program = STARTER if links else NO_LINKS + STARTER
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "k/config.toml")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in programs:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in programs:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in programs]
    assert len({secret for secret, _ in answers}) == 1
    assert [created for _, created in answers].count("True") == 1
    assert os.listdir(tmp_path / "k") == ["config.toml"]


def test_without_links_a_file_that_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert private_files.create_file(tmp_path / "f", b"one")
    assert not private_files.create_file(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]


# ---------------------------------------------------------------- the template


def uncommented(text: str) -> str:
    """The template with all of its examples switched on."""
    return re.sub(r"(?m)^# (?=\[?[a-z_.]+(?:\.hosts\S+)?\]?(?: =|$))", "", text)


def documented(model: type[BaseModel], table: dict[str, object], where: str) -> None:
    for key in model.model_fields:
        assert key in table, f"{where}: {key} is not in the template"


def test_the_template_has_every_key_and_its_examples_are_valid(tmp_path: Path) -> None:
    text = uncommented(template_text()).replace("{fresh secret}", "s" * 64)
    tables = tomllib.loads(text)
    for section, field in ConfigModel.model_fields.items():
        assert section in tables
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                documented(kind, tables[section], section)
    documented(HostSettings, tables["worker_settings"], "worker_settings")
    documented(RestartWorkers, tables["restart_workers"], "restart_workers")
    place = tmp_path / "config.toml"
    place.touch(mode=0o600)
    place.write_text(text)
    config = load_config(place)
    assert config.restart_workers is not None
    assert config.worker_settings_for("ralab12").worker_max_parallel_jobs == 2


def test_the_template_parses_to_the_defaults(tmp_path: Path) -> None:
    written = load_config(tmp_path / "config.toml").model
    plain = ConfigModel.model_validate(
        {"common_settings": {"shared_secret": written.common_settings.shared_secret}}
    )
    assert written == plain
    shown = tomllib.loads(template_text())
    for section in ("common_settings", "server_settings", "worker_settings", "client_settings"):
        model = getattr(plain, section)
        for key in type(model).model_fields:
            default = getattr(model, key)
            if key != "shared_secret" and default is not None and default != {}:
                assert key in shown[section], f"[{section}] {key} has a default and is not shown with it"


def test_every_key_of_the_template_has_a_comment() -> None:
    lines = template_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"(# )?[a-z_]+ = ", line) and not line.startswith(
            ("# primelib", "# genus", "# worker_max_parallel_jobs = 2")
        ):
            assert re.match(r"# [^=]+$|# .*[.:…]$", above), f"no comment above {line!r}"


def test_the_secret_of_the_template_itself_is_not_accepted(tmp_path: Path) -> None:
    place = tmp_path / "config.toml"
    place.touch(mode=0o600)
    place.write_text(template_text())
    assert "at least 24 characters" in fault(place)

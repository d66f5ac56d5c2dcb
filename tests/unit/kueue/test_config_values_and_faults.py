"""What a configuration may contain, and the one line that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kueue.config import Config, load_config
from kueue.errors import ConfigError

SECRET = "only-for-tests-0123456789abcdef"
COMMON = f'[common_settings]\nshared_secret = "{SECRET}"\n'
PORT = "must be a whole number from 1 to 65535"


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    return load_config(path)


def fault(tmp_path: Path, text: str) -> str:
    """The line about a faulty file, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    told = str(caught.value)
    assert "\n" not in told
    assert SECRET not in told
    start = f"{tmp_path / 'config.toml'}: "
    assert told.startswith(start)
    return told.removeprefix(start)


def test_a_secret_alone_is_a_configuration(tmp_path: Path) -> None:
    config = load(tmp_path, COMMON)
    assert config.common_settings.shared_secret == SECRET
    assert config.common_settings.server_name == "localhost"
    assert config.common_settings.server_port == 11236
    assert config.server_settings.worker_timeout_seconds == 600
    assert config.server_settings.global_max_parallel_jobs is None
    assert config.worker_settings.worker_max_parallel_jobs is None
    assert config.worker_settings.job_oom_score_adj == 500
    assert config.client_settings.autostart is True
    assert config.restart_workers is None
    assert config.global_resources == {}
    assert config.path == tmp_path / "config.toml"
    assert config.created is False


def test_a_file_of_the_rust_kueue_works(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"""
[common_settings]
shared_secret = "{"k3jv" * 16}"
server_name = "ralab29"
server_port = 11236
log_level = "INFO"

[server_settings]
bind_addresses = "0.0.0.0 [::]"
maintenance_interval_seconds = 60
worker_timeout_seconds = 300
job_offer_timeout_seconds = 60
job_cleanup_after_minutes = 2880
global_max_parallel_jobs = 100

[worker_settings]
system_update_interval_seconds = 60
worker_max_parallel_jobs = 10
dynamic_check_free_resources = true
dynamic_cpu_load_scale_factor = 1.0

[client_settings]
job_default_cpus = 8
job_default_ram_mb = 8192

[restart_workers]
ssh_user = "someone"
hostnames = '''
ralab04   ralab05
'''
sleep_minutes_before_recheck = 30.5

[global_resources]
primelib = 31
none_now = 0
""",
    )
    assert config.common_settings.log_level == "info"
    assert config.server_settings.bind_hosts == ["0.0.0.0", "::"]
    assert config.server_settings.global_max_parallel_jobs == 100
    assert config.client_settings.job_default_cpus == 8
    assert config.restart_workers is not None
    assert config.restart_workers.host_list == ["ralab04", "ralab05"]
    assert config.restart_workers.sleep_minutes_before_recheck == 30.5
    assert config.global_resources == {"primelib": 31, "none_now": 0}


def test_resources_of_a_worker_are_amounts_or_named_units(tmp_path: Path) -> None:
    config = load(tmp_path, COMMON + '[worker_settings.resources]\nscratch = 2\ngpu = ["0", "1", "MIG-3"]\n')
    assert config.worker_settings.resources == {"scratch": 2, "gpu": ("0", "1", "MIG-3")}
    assert config.worker_settings.own_resources() == (("gpu", 3), ("scratch", 2))


HOSTS = """
[worker_settings]
job_nice = 5
spool_max_mb = 7
[worker_settings.resources]
gpu = 1
[worker_settings.hosts."ralab*"]
job_nice = 6
[worker_settings.hosts."ralab1[0-4]"]
job_nice = 7
resources = { fpga = 2 }
"""


@pytest.mark.parametrize(
    ("host", "nice", "resources"),
    [
        ("rax11", 5, {"gpu": 1}),
        ("ralab05", 6, {"gpu": 1}),
        ("ralab12", 7, {"fpga": 2}),
        ("RALAB12.lab.example.org", 7, {"fpga": 2}),
        ("notralab12", 5, {"gpu": 1}),
    ],
)
def test_overrides_apply_to_hosts_that_match_in_the_order_of_the_file(
    tmp_path: Path, host: str, nice: int, resources: dict[str, int]
) -> None:
    settings = load(tmp_path, COMMON + HOSTS).worker_settings_for(host)
    assert settings.job_nice == nice
    assert settings.resources == resources
    assert settings.spool_max_mb == 7


def test_the_secret_is_in_no_repr(tmp_path: Path) -> None:
    config = load(tmp_path, COMMON + f'previous_secrets = ["{SECRET}-old"]\n')
    assert config.common_settings.previous_secrets == (f"{SECRET}-old",)
    assert SECRET not in repr(config)


def test_a_loaded_configuration_does_not_change(tmp_path: Path) -> None:
    config = load(tmp_path, COMMON)
    with pytest.raises(ValueError, match="frozen"):
        config.server_settings.worker_timeout_seconds = 5
    with pytest.raises(AttributeError):
        config.path = tmp_path  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('server_port = "5"', f'[common_settings] server_port = "5": {PORT}'),
        ("server_port = true", f"[common_settings] server_port = true: {PORT}"),
        ("server_port = 0", f"[common_settings] server_port = 0: {PORT}"),
        ("server_port = 5.0", f"[common_settings] server_port = 5.0: {PORT}"),
        ("server_port = 65536", f"[common_settings] server_port = 65536: {PORT}"),
        (
            f"server_port = 0x{'f' * 5000}",
            "[common_settings] server_port = (a number of very many digits): must be a whole number"
            " from 1 to 65535",
        ),
        (
            'log_level = "loud\\u001b[31m"',
            '[common_settings] log_level = "loud\\u001b[31m": must be one of trace, debug, info,'
            " warn, warning, error",
        ),
        (
            'server_name = "ralab29:11236"',
            '[common_settings] server_name = "ralab29:11236": must be the name or address of a host,'
            " without a port",
        ),
        (
            'state_dir = "kueue"',
            '[common_settings] state_dir = "kueue": must be an absolute path, or one that begins with ~',
        ),
        (
            'state_dir = "/srv/{hostname}"',
            '[common_settings] state_dir = "/srv/{hostname}": may contain {host} and {user},'
            " but no other braces",
        ),
        (
            "previous_secrets = 5",
            "[common_settings] previous_secrets: must be a list",
        ),
        (
            "[server_settings]\nworker_timeout_seconds = nan",
            "[server_settings] worker_timeout_seconds = nan: must be a number from 1 to 31536000",
        ),
        (
            "[server_settings]\nworker_timeout_seconds = -1",
            "[server_settings] worker_timeout_seconds = -1: must be a number from 1 to 31536000",
        ),
        (
            '[server_settings]\nbind_addresses = "0.0.0.0.0"',
            "[server_settings] bind_addresses = \"0.0.0.0.0\": '0.0.0.0.0' is no address; for instance"
            ' "0.0.0.0 [::]"',
        ),
        (
            '[server_settings]\nbind_addresses = " "',
            '[server_settings] bind_addresses = " ": must be addresses separated by spaces, for instance'
            ' "0.0.0.0 [::]"',
        ),
        (
            "[worker_settings]\ndynamic_check_free_resources = 1",
            "[worker_settings] dynamic_check_free_resources = 1: must be true or false",
        ),
        (
            '[worker_settings.resources]\ngpu = ["0", "0"]',
            '[worker_settings.resources] gpu = ["0", "0"]: must be an amount, or a list of 1 to 4096'
            " different names",
        ),
        (
            '[worker_settings.resources]\ngpu = ["0,1"]',
            '[worker_settings.resources] gpu = ["0,1"]: names of units are texts without spaces and commas,'
            ' like ["0", "1"]',
        ),
        (
            "[worker_settings.resources]\ngpu = 0",
            "[worker_settings.resources] gpu = 0: must be a whole number from 1 to 2147483647, or names of"
            ' units like ["0", "1"]',
        ),
        (
            '[worker_settings.hosts."ralab*"]\njob_nice = 40',
            '[worker_settings.hosts."ralab*"] job_nice = 40: must be a whole number from 0 to 19',
        ),
        (
            "[global_resources]\ngenus = 9223372036854775808",
            "[global_resources] genus = 9223372036854775808: must be a whole number from 0 to 2147483647",
        ),
        (
            "[global_resources]\n2fast = 1",
            "[global_resources] 2fast: is no name of a resource: letters, digits, _ . - and a letter"
            " or _ first, at most 64",
        ),
        (
            "[restart_workers]\nhostnames = 5",
            "[restart_workers] hostnames = 5: must be the names of hosts, separated by spaces",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path: Path, text: str, told: str) -> None:
    assert fault(tmp_path, COMMON + text) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[server_settings]\nworker_timeout_second = 5",
            "[server_settings] worker_timeout_second = 5: not known; did you mean worker_timeout_seconds?",
        ),
        (
            "[server_settings]\nserver_port = 5",
            "[server_settings] server_port = 5: not known here; it belongs in [common_settings]",
        ),
        ("[server_setings]", "[server_setings]: not known; did you mean server_settings?"),
        ("zzz = 1", "[common_settings] zzz = 1: not known; the nearest is state_dir"),
        (
            '[worker_settings.hosts."r*"]\njob_nise = 1',
            '[worker_settings.hosts."r*"] job_nise = 1: not known; did you mean job_nice?',
        ),
        (
            "[restart_workers]\nhostname = 1",
            "[restart_workers] hostname = 1: not known; did you mean hostnames?",
        ),
        (
            "[qqq]",
            "[qqq]: not known; the sections are common_settings, server_settings, worker_settings,"
            " client_settings, restart_workers, global_resources",
        ),
        (
            "[worker_settings]\nhosts = 3",
            "worker_settings.hosts must be a section (a table): [worker_settings.hosts]",
        ),
    ],
)
def test_an_unknown_key_or_section_names_the_one_that_was_meant(tmp_path: Path, text: str, told: str) -> None:
    assert fault(tmp_path, COMMON + text) == told


@pytest.mark.parametrize("text", ["path = 5\n", "created = true\n", "server_port = 5\n"])
def test_a_key_outside_of_all_sections_is_not_known(tmp_path: Path, text: str) -> None:
    assert "not known" in fault(tmp_path, text + COMMON)


def test_the_first_fault_of_the_file_is_told_and_the_others_counted(tmp_path: Path) -> None:
    told = fault(tmp_path, COMMON + "[client_settings]\nautostart = 1\n[server_settings]\nx = 1\nz = 2\n")
    assert told == "[client_settings] autostart = 1: must be true or false (and 2 more)"


@pytest.mark.parametrize("where", ["", '.hosts."ralab*"'])
def test_a_resource_is_global_or_a_worker_s_own(tmp_path: Path, where: str) -> None:
    text = f"{COMMON}[worker_settings{where}.resources]\ngpu = 2\n[global_resources]\ngpu = 1\n"
    assert fault(tmp_path, text).startswith(
        f"[worker_settings{where}.resources] gpu is in [global_resources], too"
    )


@pytest.mark.parametrize(
    "text", ["", "[common_settings]\n", "[server_settings]\n", "[global_resources]\na = 1"]
)
def test_a_missing_secret_is_an_error_with_the_command_that_makes_one(tmp_path: Path, text: str) -> None:
    assert fault(tmp_path, text) == (
        "[common_settings] shared_secret is missing;"
        ' make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
    )


@pytest.mark.parametrize(
    "key", ["shared_secret = %s", f'shared_secret = "{SECRET}"\nprevious_secrets = [%s]']
)
@pytest.mark.parametrize("value", ['"keep private!"', '"%s"' % ("x" * 23), "5"])
def test_a_short_secret_is_refused_without_showing_it(tmp_path: Path, key: str, value: str) -> None:
    told = fault(tmp_path, "[common_settings]\n" + key % value)
    assert "at least 24 characters; make one with: python3 -c" in told
    assert "private!" not in told
    assert "xxx" not in told


def test_a_secret_of_24_characters_is_accepted(tmp_path: Path) -> None:
    config = load(tmp_path, f'[common_settings]\nshared_secret = "{"x" * 24}"\n')
    assert config.common_settings.shared_secret == "x" * 24


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[common_settings]\nserver_port = \n", "line 2, column 15: Invalid value"),
        ("a = 1\na = 2\n", "line 2"),
        ("[common_settings", "line 1"),
        ("a = " + "[" * 3000, "a number or nesting that is too long"),
        ("a = " + "9" * 5000, "a number or nesting that is too long"),
    ],
)
def test_bad_toml_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert told in fault(tmp_path, text)


@pytest.mark.parametrize(
    "value", ['"localhost"', '"ralab29.lab.example.org"', '"[::1]"', '"192.0.2.7"', '"my_host"']
)
def test_names_and_addresses_of_servers(tmp_path: Path, value: str) -> None:
    name = load(tmp_path, COMMON + f"server_name = {value}\n").common_settings.server_name
    assert name == value.strip('"').strip("[]")


@pytest.mark.parametrize("value", ['""', '"a b"', '"10.0.0"', '"-x"', '"http://x"', "5", '"a\\u0000"'])
def test_what_is_no_name_of_a_server(tmp_path: Path, value: str) -> None:
    assert "must be the name or address of a host" in fault(tmp_path, COMMON + f"server_name = {value}\n")

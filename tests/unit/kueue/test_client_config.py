"""The quick way to read what a client needs: never more lenient than the models, and equal to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platformdirs
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from kueue.client_config import CHECKS, HOST_KEYS, OTHERS_KEYS, ClientConfig, load_client_config, plainly
from kueue.config import Config, validated
from kueue.config_model import (
    ClientSettings,
    CommonSettings,
    ConfigModel,
    HostSettings,
    RestartWorkers,
    ServerSettings,
    WorkerSettings,
)
from kueue.config_reading import user_place
from kueue.errors import ConfigError

SECRET = "s" * 30
PLACE = "/nowhere/config.toml"

VALUES = st.one_of(
    st.sampled_from(
        [SECRET, "short", "localhost", "127.0.0.1", "::1", "[::1]", "a.b", "a.b.", "-a", "a-", "0.0.0.0.0"]
    ),
    st.sampled_from(
        ["~/x", "/x/{host}", "/{x}", "relative", "", "info", "INFO", "0.0.0.0", "[::] 127.0.0.1", "9"]
    ),
    st.sampled_from(
        [0, 1, -1, 65535, 65536, 2**62, 2**63, True, False, 1.5, float("nan"), float("inf"), 86400, 86401]
    ),
    st.lists(st.sampled_from([SECRET, "x", 1]), max_size=2),
    st.text(max_size=4),
)


def section(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([*CHECKS[name], "typo"]), VALUES, max_size=3)


TABLES = st.fixed_dictionaries(
    {"common_settings": section("common_settings").map(lambda found: {"shared_secret": SECRET, **found})},
    optional={
        "client_settings": section("client_settings"),
        "server_settings": st.dictionaries(st.sampled_from(["bind_addresses", "typo"]), VALUES, max_size=1),
    },
)


def by_the_models(values: dict[str, Any]) -> ClientConfig | None:
    try:
        return Config(validated(values, Path(PLACE)), Path(PLACE)).for_clients
    except ConfigError:
        return None


@given(TABLES)
def test_what_is_read_quickly_is_what_the_models_make_of_it(values: dict[str, Any]) -> None:
    quick = plainly(values, PLACE)
    if quick is not None:
        assert quick == by_the_models(values)


def test_keys_are_those_of_the_models() -> None:
    models: dict[str, type[BaseModel]] = {
        "common_settings": CommonSettings,
        "client_settings": ClientSettings,
        "server_settings": ServerSettings,
        "worker_settings": WorkerSettings,
        "restart_workers": RestartWorkers,
    }
    assert set(ConfigModel.model_fields) == {*models, "global_resources"}
    for name, model in models.items():
        assert set(CHECKS.get(name) or OTHERS_KEYS[name]) == set(model.model_fields), name
    assert set(HostSettings.model_fields) == HOST_KEYS


def test_defaults_are_those_of_the_models() -> None:
    values = {"common_settings": {"shared_secret": SECRET}}
    assert plainly(values, PLACE) == by_the_models(values)


@pytest.mark.parametrize(
    "more",
    [
        {"server_settings": {"worker_timeout": 3}},
        {"worker_settings": {"hosts": {"a": {"typo": 1}}}},
        {"no_such_section": {}},
        {"client_settings": {"autostart": 1}},
        {"top_level": 1},
    ],
)
def test_mistakes_are_told_as_by_the_models(more: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch(mode=0o600)
    text = tomli_w.dumps({**{k: v for k, v in more.items() if not isinstance(v, dict)}})
    text += tomli_w.dumps({"common_settings": {"shared_secret": SECRET}})
    text += tomli_w.dumps({k: v for k, v in more.items() if isinstance(v, dict)})
    file.write_text(text)
    with pytest.raises(ConfigError) as told:
        load_client_config(file)
    assert "\n" not in str(told.value)
    assert str(file) in str(told.value)


def test_places_are_those_of_platformdirs(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("", "  ", "/xdg", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", named)
        monkeypatch.setenv("XDG_STATE_HOME", named)
        assert user_place("config") == platformdirs.user_config_dir("kueue")
        assert user_place("state") == platformdirs.user_state_dir("kueue")


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(plainly({"common_settings": {"shared_secret": SECRET}}, PLACE))

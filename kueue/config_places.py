"""Places that a configuration names: `~`, `{host}` and `{user}` filled in, and the state directory. Knows no
keys; the standard library alone."""

from __future__ import annotations

import os
import socket

from kueue.config_reading import absolute, user_place
from kueue.errors import ConfigError
from kueue.text import visible


def expanded(text: str) -> str:
    """`text` with the host's short name, the user's name and home directories filled in."""
    text = text.replace("{host}", socket.gethostname().split(".", 1)[0])
    if "{user}" in text:
        text = text.replace("{user}", _user())
    return os.path.expanduser(text)


def named_place(file: str, section: str, key: str, text: str) -> str:
    """The place that a key of the configuration `file` names; absolute.

    Raises:
        ConfigError: no absolute path comes out of it (an unknown `~user`).
    """
    place = expanded(text)
    if not place.startswith("/"):
        raise ConfigError(f'{visible(file)}: [{section}] {key} = "{visible(text)}": no such user here')
    return place


def state_place(file: str, configured: str | None) -> str:
    """Where server and local programs keep what must last; absolute. `KUEUE_STATE_DIR` wins over `configured`.

    Raises:
        ConfigError: as `named_place`.
    """
    override = os.environ.get("KUEUE_STATE_DIR")
    if override:
        return absolute(expanded(override))
    if configured:
        return named_place(file, "common_settings", "state_dir", configured)
    return absolute(user_place("state"))


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user that no database knows
        return str(os.getuid())

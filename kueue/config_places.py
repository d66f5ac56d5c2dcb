"""Places that a configuration names: `~`, `{host}` and `{user}` filled in, and the state directory. Knows no keys."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from kueue.errors import ConfigError
from kueue.text import visible


def expanded(text: str) -> str:
    """`text` with the host's short name, the user's name and home directories filled in."""
    text = text.replace("{host}", socket.gethostname().split(".", 1)[0])
    if "{user}" in text:
        text = text.replace("{user}", _user())
    return os.path.expanduser(text)


def absolute(file: Path, section: str, key: str, text: str) -> Path:
    """The place that a key of the configuration `file` names.

    Raises:
        ConfigError: no absolute path comes out of it (an unknown `~user`).
    """
    place = Path(expanded(text))
    if not place.is_absolute():
        raise ConfigError(f'{visible(str(file))}: [{section}] {key} = "{visible(text)}": no such user here')
    return place


def state_dir_of(file: Path, configured: str | None) -> Path:
    """Where server and local programs keep what must last; absolute. `KUEUE_STATE_DIR` wins over `configured`.

    Raises:
        ConfigError: as `absolute`.
    """
    override = os.environ.get("KUEUE_STATE_DIR")
    if override:
        return Path(expanded(override)).absolute()
    if configured:
        return absolute(file, "common_settings", "state_dir", configured)
    import platformdirs

    return Path(platformdirs.user_state_path("kueue")).absolute()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user that no database knows
        return str(os.getuid())

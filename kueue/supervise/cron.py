"""The supervisor's line in the user's crontab: put in, taken out, everything else left as it is.

Two machines of a shared home have a crontab each, and a round is safe beside another one: a second worker refuses
to start where one runs.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from kueue.config import Config, RestartWorkers
from kueue.errors import ConfigError, KueueError
from kueue.text import visible

MARK = "# kueue_restart_workers:"


def change(config: Config, *, given: str | None, install: bool) -> int:
    """Put the lines in or take them out; the exit code. `given`: the configuration that was named, if one was."""
    before = _crontab()
    kept = without(before, str(config.path))
    if install:
        words = [*_program(), "--once", "--quiet"]
        if given is not None or "KUEUE_CONFIG" in os.environ:
            words += ["-c", str(config.path)]
        minutes = (config.restart_workers or RestartWorkers()).sleep_minutes_before_recheck
        after = kept + entries(words, str(config.path), minutes)
    else:
        after = kept
    if after != before:
        _set_crontab(after)
    told = "in" if install else "no longer in"
    print(f"kueue_restart_workers is {told} your crontab on this machine")
    return 0


def is_installed(config: Config) -> bool:
    """Is there a line for this configuration? No, if that can't be found out."""
    try:
        before = _crontab()
    except KueueError:
        return False
    return without(before, str(config.path)) != before


def entries(words: list[str], config_path: str, minutes: float) -> str:
    """The lines. A `%` would end the command for cron; each line ends with a mark that names the configuration."""
    command = shlex.join(words).replace("%", r"\%")
    mark = f"{MARK} {config_path}".replace("%", r"\%")
    return f"@reboot sleep 60; {command} {mark}\n{schedule(minutes)} {command} {mark}\n"


def schedule(minutes: float) -> str:
    """Times of cron that come about every so many minutes: those that divide the hour or the day."""
    if minutes < 60:
        every = max([each for each in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30) if each <= max(1.0, minutes)])
        return f"*/{every} * * * *" if every > 1 else "* * * * *"
    hours = max([each for each in (1, 2, 3, 4, 6, 8, 12, 24) if each * 60 <= minutes])
    return {1: "0 * * * *", 24: "0 0 * * *"}.get(hours, f"0 */{hours} * * *")


def without(crontab: str, config_path: str) -> str:
    """A crontab without our lines for this configuration."""
    mark = f"{MARK} {config_path}".replace("%", r"\%")
    return "".join(line for line in crontab.splitlines(keepends=True) if not line.rstrip("\n").endswith(mark))


def _program() -> list[str]:
    beside = os.path.join(os.path.dirname(sys.executable), "kueue_restart_workers")
    return [beside] if os.access(beside, os.X_OK) else [sys.executable, "-m", "kueue.supervise.cli"]


def _crontab() -> str:
    done = _run(["crontab", "-l"], None)
    if done.returncode == 0:
        text = done.stdout
        return text if not text or text.endswith("\n") else text + "\n"
    if "no crontab" in done.stderr.lower():
        return ""
    raise ConfigError(f"the crontab can't be read: {visible(done.stderr.strip())}")


def _set_crontab(text: str) -> None:
    done = _run(["crontab", "-"], text)
    if done.returncode != 0:
        raise ConfigError(f"the crontab can't be changed: {visible(done.stderr.strip())}")


def _run(words: list[str], text: str | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=30, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError as error:
        raise ConfigError(f"crontab can't be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ConfigError("crontab does not answer") from None

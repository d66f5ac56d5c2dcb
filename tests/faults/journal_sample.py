"""Makes the frozen sample of a schema version; how and when, `tests/samples/journal/README.md` says.

A real server, a real worker and the command line fill every table; the journal of the killed server becomes SQL.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

from tests.support.lab import Lab
from tests.support.waiting import wait_for


def dump(path: Path) -> str:
    """A journal as SQL, with the header's numbers and without the paths of the lab."""
    connection = sqlite3.connect(path)
    numbers = "".join(
        f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};\n"
        for name in ("application_id", "user_version")
    )
    text = numbers + "\n".join(connection.iterdump()) + "\n"
    connection.close()
    return text


def load(sql: str, path: Path) -> None:
    """The journal that such SQL describes, at `path`."""
    path.touch(mode=0o600)
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()


def fill(lab: Lab) -> None:
    """Rows in every table, and the server killed."""
    lab.env = {name: value for name, value in lab.env.items() if name.startswith("KUEUE")}
    lab.env |= {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody"}
    lab.start_server()
    lab.start_worker("w1")
    there = ("--cwd", "/tmp", "--clean-env")
    good = lab.submit(*there, "--name", "good", "sh", "-c", "echo out; echo err >&2")
    bad = lab.submit(*there, "--group", "bad ones", "sh", "-c", "exit 3")
    runs = [lab.submit(*there, "sleep", "1000") for _ in range(2)]
    lab.wait_state(good, "succeeded")
    lab.wait_state(bad, "failed")
    for job in runs:
        lab.wait_state(job, "running")
    waits = lab.submit(*there, "--priority", "7", "true")
    lab.ok("remove-job", str(waits))
    # Its worker is away: the order to end it stays in the journal.
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    wait_for("the worker is away", lambda: lab.worker_state("w1") != "connected")
    lab.ok("remove-job", "--kill", str(runs[1]))
    lab.submit(*there, "true")
    lab.ok("cmd", *there, "--array", "1-19:2", "--max-running", "3", "--name", "task-{n}", "echo", "{n}")
    lab.ok("remove-job", "9-12")
    lab.ok("pause-worker", "w1", "--reason", "new disk")
    lab.ok("pause-queue", "night", "--reason", "new library")
    lab.ok("set-queue", "tapeout", "--weight", "3", "--max-running", "2")
    lab.kill_server()


def main(target: Path) -> None:
    """Write the sample."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kueue-sample-") as place:
        lab = Lab(Path(place))
        try:
            fill(lab)
            text = dump(lab.state / "server" / "journal.sqlite")
        finally:
            lab.close()
    target.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Completion: a script for each shell that asks `kueue __complete` for the words that may come next.

Commands and options come from the table of commands; job ids, queues, workers and resources from the server, if it
answers within 200 ms.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kueue.cli.command import Argument, Option, command
from kueue.cli.commands import GLOBAL, NAMES, find

if TYPE_CHECKING:
    from kueue.cli.session import Session

SERVER_SECONDS = 0.2
MOST_IDS = 200

_SCRIPTS = {
    "bash": """\
_kueue_complete() {
    local IFS=$'\\n' last="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(compgen -W "$(kueue __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$last"))
    if [ ${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$last")); fi
}
complete -o filenames -F _kueue_complete kueue
""",
    "zsh": """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_kueue() {
    local -a candidates
    candidates=("${(@f)$(kueue __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${candidates[1]}" ]]; then compadd -- "${candidates[@]}"; else _files; fi
}
compdef _kueue kueue
""",
    "fish": """\
function __kueue_complete
    set -l words (commandline -opc) (commandline -ct)
    kueue __complete $words[2..-1] 2>/dev/null
end
complete -c kueue -a '(__kueue_complete)'
""",
}

JOB_COMMANDS = frozenset(
    {
        "show-job",
        "explain",
        "logs",
        "list-jobs",
        "wait-job",
        "remove-job",
        "rerun-job",
        "set-job",
        "clean-jobs",
    }
)
QUEUE_COMMANDS = frozenset({"pause-queue", "resume-queue", "set-queue", "remove-queue", "load", "dump"})
WORKER_COMMANDS = frozenset({"show-worker", "forget-worker", "pause-worker", "resume-worker"})


@command(Argument("shell", "SHELL", "bash, zsh or fish."))
def complete(session: Session, shell: str) -> int:
    """Print a completion script: eval "$(kueue complete bash)"."""
    return print_script(shell)


def print_script(shell: str) -> int:
    """The script for a shell; 2 for one that we don't know."""
    script = _SCRIPTS.get(shell)
    if script is None:
        sys.stderr.write(f"kueue: no completion for {shell}; there is one for {', '.join(_SCRIPTS)}\n")
        return 2
    sys.stdout.write(script)
    return 0


def print_candidates(words: list[str]) -> int:
    """What may stand for the last of `words`, a line each. Whatever goes wrong, there are no candidates."""
    try:
        for word in candidates(words):
            sys.stdout.write(word + "\n")
    except Exception:
        return 0  # a shell that is being typed into is no place for our troubles
    return 0


def candidates(words: list[str]) -> list[str]:
    """Pure but for the server: all candidates that begin with the last word."""
    from kueue.cli.following import ON_FAILURE
    from kueue.job import JobState

    words = words or [""]
    last, before = words[-1], words[:-1]
    position = _command_position(before)
    if position is None:
        if before and before[-1] in ("-c", "--config"):
            return []
        names = [*_flags_of(GLOBAL), "--version"] if last.startswith("-") else NAMES
        return [name for name in names if name.startswith(last)]
    name = before[position]
    found = find(name)
    if found is None:
        return []
    given = before[position + 1 :]
    if given and given[-1] == "--resource":
        return [word for word in _from_server("resources") if word.startswith(last)]
    if given and given[-1] in ("-q", "--queue"):
        return [word for word in _from_server("queues") if word.startswith(last)]
    if given and given[-1] == "--state":
        return [state.value for state in JobState if state.value.startswith(last)]
    if given and given[-1] == "--on-failure":
        return [what for what in ON_FAILURE if what.startswith(last)]
    if given and given[-1] in ("--after", "--after-any"):
        return [word for word in _from_server("jobs") if word.startswith(last)]
    if given and given[-1] in ("--worker", "--not-worker"):
        return [word for word in _from_server("workers") if word.startswith(last)]
    if last.startswith("-"):
        if name == "cmd" and any(not word.startswith("-") for word in given):
            return []
        return [flag for flag in _flags_of(found.options) if flag.startswith(last)]
    if name in JOB_COMMANDS:
        return [word for word in _from_server("jobs") if word.startswith(last)]
    if name in QUEUE_COMMANDS:
        return [word for word in _from_server("queues") if word.startswith(last)]
    if name in WORKER_COMMANDS:
        return [word for word in _from_server("workers") if word.startswith(last)]
    if name == "complete":
        return [shell for shell in _SCRIPTS if shell.startswith(last)]
    return []


def _command_position(before: list[str]) -> int | None:
    position = 0
    while position < len(before):
        if before[position] in ("-c", "--config", "--color"):
            position += 2
        elif before[position].startswith("-"):
            position += 1
        else:
            return position
    return None


def _flags_of(options: Iterable[Option]) -> list[str]:
    return [flag for option in options for flag in option.flags if flag.startswith("--")]


def _from_server(what: str) -> list[str]:
    """Words that the server knows; nothing if it takes too long."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    from kueue.cli.session import Session

    client = Session(None, "never").client(patience=0.0)
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SERVER_SECONDS)
    try:
        if what == "jobs":
            return [str(job.id) for job in client.job_views(newest_first=True, limit=MOST_IDS)]
        if what == "queues":
            return [queue.name for queue in client.queues()]
        if what == "workers":
            return [worker.name for worker in client.workers()]
        return [resource.name for resource in client.resources().resources]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

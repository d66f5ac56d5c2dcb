"""The table of commands: their families, in the order of the help, and the module that each is in."""

from __future__ import annotations

from kueue.cli.command import Command, Option

JOBS, QUEUES, CLUSTER, SERVER = "Jobs", "Queues", "Machines", "Kueue"
FAMILIES = {
    JOBS: {
        "cmd": "cmd",
        "list-jobs": "listing",
        "show-job": "listing",
        "explain": "explaining",
        "logs": "output",
        "wait-job": "changing",
        "remove-job": "changing",
        "rerun-job": "rerunning",
        "set-job": "rerunning",
        "clean-jobs": "changing",
    },
    QUEUES: {
        "list-queues": "queues",
        "pause-queue": "queues",
        "resume-queue": "queues",
        "set-queue": "queues",
        "load": "loading",
        "dump": "loading",
        "restore": "loading",
        "remove-queue": "queues",
    },
    CLUSTER: {
        "list-workers": "cluster",
        "show-worker": "cluster",
        "pause-worker": "steering",
        "resume-worker": "steering",
        "list-resources": "cluster",
        "status": "status",
        "top": "top",
    },
    SERVER: {
        "up": "serving",
        "down": "serving",
        "backup": "serving",
        "shutdown": "serving",
        "reload": "serving",
        "forget-worker": "serving",
        "complete": "completion",
    },
}
"""By name: the module of `kueue.cli` in which the command is, by that name with underscores."""
_MODULES = {name: module for modules in FAMILIES.values() for name, module in modules.items()}

NAMES = tuple(_MODULES)
GLOBAL = (
    Option("config", ("-c", "--config"), "text", "Configuration file.", "PATH"),
    Option("colour", ("--color",), "text", "Colours: auto, always or never.", "WHEN", "auto"),
)
"""Options before the command's name."""
COLOURS = ("auto", "always", "never")


def find(name: str) -> Command | None:
    """A command by its name; None if there is none. Only its own module is imported."""
    module = _MODULES.get(name)
    if module is None:
        return None
    from importlib import import_module  # imported here: a plain `kueue cmd` needs no other module

    found = getattr(import_module(f"kueue.cli.{module}"), name.replace("-", "_"))
    assert isinstance(found, Command)
    return found

"""Which of the user's keys can be used without asking anybody, and a line about those that can't."""

from __future__ import annotations

import os
import socket

import asyncssh

from kueue.config import RestartWorkers

USUAL = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk", "id_dsa")


def named(settings: RestartWorkers) -> list[str]:
    """The files of `ssh_key_files`."""
    return [os.path.expanduser(file) for file in settings.ssh_key_files]


def situation(settings: RestartWorkers) -> str:
    """What stands in the way of our keys, after "it takes none of our keys"; empty if nothing does."""
    places = named(settings)
    found = places or [os.path.join(os.path.expanduser("~/.ssh"), name) for name in USUAL]
    there = [place for place in found if os.path.exists(place)]
    missing = [place for place in places if not os.path.exists(place)]
    if missing:
        return f": {missing[0]} of ssh_key_files is not there"
    locked = [place for place in there if needs_passphrase(place)]
    if locked and not agent_answers():
        return (
            f": {locked[0]} has a passphrase and no ssh agent has it; either load it, with"
            f' eval "$(ssh-agent)" && ssh-add {locked[0]}, or make a key without one for this:'
            " ssh-keygen -t ed25519 -N '' -f ~/.ssh/kueue, and name it in ssh_key_files"
        )
    if not there and not agent_answers():
        return (
            ": there is no key in ~/.ssh and no ssh agent; either load one, with"
            " eval \"$(ssh-agent)\" && ssh-add KEY, or make one: ssh-keygen -t ed25519 -N ''"
            " && ssh-copy-id HOST"
        )
    return f": put one there, with ssh-copy-id{f' -i {there[0]}' if there else ''} HOST"


def needs_passphrase(place: str) -> bool:
    """Is this private key encrypted?"""
    try:
        asyncssh.read_private_key(place)
    except asyncssh.KeyEncryptionError:
        return True
    except asyncssh.KeyImportError as error:
        return "passphrase" in str(error).lower()
    except (OSError, ValueError):
        return False
    return False


def agent_answers() -> bool:
    """Does an ssh agent listen where `SSH_AUTH_SOCK` says?"""
    place = os.environ.get("SSH_AUTH_SOCK", "")
    if not place:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(place)
        except OSError:
            return False
    return True

"""The tree of errors that Kueue raises towards its users.

Everything a caller may want to catch derives from `KueueError`. Each class carries the exit code that
the command line gives for it (`docs/operations.md` has the table): 1 the answer is no, 2 bad usage or
configuration, 3 the server is unreachable or refused us.
"""

from __future__ import annotations

from typing import ClassVar


class KueueError(Exception):
    """Base of all errors of Kueue. `str(error)` is one friendly line for people."""

    exit_code: ClassVar[int] = 1


class ConfigError(KueueError):
    """The configuration file is missing a piece, has a wrong one, or must not be read."""

    exit_code = 2


class UsageError(KueueError):
    """Arguments that can't be meant, found before or by the server."""

    exit_code = 2


class ServerUnreachableError(KueueError):
    """No server answered in time, or what answered is not a Kueue server."""

    exit_code = 3


class AuthenticationError(KueueError):
    """The server refused us: the shared secret differs."""

    exit_code = 3


class VersionError(KueueError):
    """Both sides are Kueue but speak no common protocol version; the text says which to upgrade."""

    exit_code = 3


class ProtocolError(KueueError):
    """A peer sent something that the protocol does not allow. Only its connection is closed."""

    exit_code = 3


class RequestError(KueueError):
    """The server understood the request and says no.

    `code` is one of the documented codes of `docs/protocol.md`, e.g. `unknown_job`,
    `unknown_resource`, `too_much`, `journal_full`.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class UnknownJobError(RequestError):
    """No job of this id is in the server's table (it may have been cleaned)."""


class UnknownWorkerError(RequestError):
    """No worker of this id or name is known to the server."""


class WaitTimeoutError(KueueError):
    """The time given to a wait is over and jobs are unfinished."""

    exit_code = 124

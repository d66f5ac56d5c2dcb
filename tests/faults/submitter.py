"""A client that remembers each block that it asked for and what it was told, over any number of servers' lives."""

from __future__ import annotations

import gc
import hashlib
import warnings

import msgspec

from kueue import __version__
from kueue.errors import ServerUnreachableError
from kueue.resources import Shape
from kueue.wire.connection import BlockingConnection, ConnectionLostError
from kueue.wire.messages import Command, Context, Failure, Heartbeat, Range, Spec, Submit, Submitted
from tests.support.lab import SECRET, Lab

ANSWER_SECONDS = 30.0


class Submitter:
    """`told`: for each token the ids that the server has promised; `open`: not answered yet."""

    def __init__(self, lab: Lab, script: str) -> None:
        self._lab = lab
        self._script = script
        self._connection: BlockingConnection | None = None
        self._rid = 0
        self._blob = msgspec.json.encode(Context(env=(("PATH", "/usr/bin:/bin"),)))
        self.told: dict[str, Range] = {}
        self.refused: dict[str, str] = {}
        self.open: list[str] = []

    def blocks_until_the_server_dies(self, most: int) -> None:
        """Submit block after block, unanswered ones first, until there is no answer any more."""
        for _ in range(most):
            if not self.open:
                self.open.append(f"token-{len(self.told) + len(self.refused)}")
            if not self.repeat(self.open[0]):
                return

    def repeat(self, token: str) -> bool:
        """Submit the block of this token (again), note the answer; False if the server is gone."""
        answer = self._ask(token)
        if answer is None:
            return False
        if isinstance(answer, Failure):
            if answer.reason.code == "journal_broken":
                return False  # the server ends; whether it has the block is open
            self.refused[token] = answer.reason.code
        else:
            ids = (answer.first, answer.first + answer.count - 1)
            assert self.told.setdefault(token, ids) == ids, f"{token} has other ids now"
            assert answer.count == self._size(token)
        if token in self.open:
            self.open.remove(token)
        return True

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _size(self, token: str) -> int:
        return 1 + int(token.rpartition("-")[2]) % 3

    def _ask(self, token: str) -> Submitted | Failure | None:
        self._rid += 1
        spec = Spec(
            Command(("sh", "-c", self._script)),
            str(self._lab.work),
            str(self._lab.work),
            Shape(ram_mb=16),
            hashlib.sha256(self._blob).hexdigest(),
        )
        try:
            if self._connection is None:
                port, timeout = self._lab.port, ANSWER_SECONDS
                self._connection = BlockingConnection("127.0.0.1", port, SECRET, __version__, timeout)
            self._connection.send(Submit(self._rid, token, (spec,) * self._size(token), (self._blob,)))
            while True:
                answer = self._connection.receive(ANSWER_SECONDS)
                assert answer is not None, f"no answer to {token}"
                if not isinstance(answer, Heartbeat):
                    assert isinstance(answer, Submitted | Failure)
                    assert answer.rid == self._rid
                    return answer
        except (ConnectionLostError, ServerUnreachableError):
            self.close()
        _collect_sockets()
        return None


def _collect_sockets() -> None:
    """The standard library leaves a socket unclosed that is reset before its TLS handshake; not our warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()

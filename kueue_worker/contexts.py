"""The contexts (environment, umask, limits) that jobs refer to, as jobs of this machine get them.

The server sends each context once a session, so what it has sent must be kept. Decoded ones are dearer and
fewer.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from kueue.errors import ProtocolError
from kueue.wire.messages import Context
from kueue_worker.environment import base_environment, value_of

MOST_ENCODED = 8192
"""More than the server remembers to have sent."""
MOST_DECODED = 256
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs are looked for if the job's environment has no PATH."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """A context, ready for use. `names`: variables that it sets; `tmpdir`: None if it sets none."""

    digest: str
    context: Context
    names: frozenset[str]
    search_path: str
    tmpdir: str | None

    def environment(self, keep_tmpdir: bool) -> list[tuple[str, str]]:
        """The variables for jobs on this machine."""
        return base_environment(self.context, keep_tmpdir)


class Contexts:
    """By SHA-256 of their encoded form, which is what jobs name them by."""

    def __init__(self) -> None:
        self._encoded: OrderedDict[str, bytes] = OrderedDict()
        self._decoded: OrderedDict[str, JobContext] = OrderedDict()

    def add(self, encoded: bytes) -> None:
        """The server sent one."""
        digest = hashlib.sha256(encoded).hexdigest()
        self._encoded[digest] = encoded
        self._encoded.move_to_end(digest)
        while len(self._encoded) > MOST_ENCODED:
            self._encoded.popitem(last=False)

    def __contains__(self, digest: str) -> bool:
        return digest in self._encoded

    def get(self, digest: str) -> JobContext:
        """The context of this name.

        Raises:
            ProtocolError: the server never sent it, or it can't be decoded.
        """
        known = self._decoded.get(digest)
        if known is not None:
            self._decoded.move_to_end(digest)
            return known
        encoded = self._encoded.get(digest)
        if encoded is None:
            raise ProtocolError(f"a job refers to a context that was not sent: {digest[:12]}")
        try:
            context = msgspec.json.decode(encoded, type=Context)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"a context that can't be decoded: {error}") from None
        pairs = base_environment(context, True)
        tmpdir = value_of(pairs, "TMPDIR", "")
        found = JobContext(
            digest,
            context,
            frozenset(name for name, _ in pairs),
            value_of(pairs, "PATH", DEFAULT_PATH),
            tmpdir or None,
        )
        self._decoded[digest] = found
        while len(self._decoded) > MOST_DECODED:
            self._decoded.popitem(last=False)
        return found

"""What a job inherits, encoded: a blob that the jobs which share it refer to by its digest; and the volumes of
many directories."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import msgspec

from kueue.directories import volume_of
from kueue.inherited import current_umask, inherited_environment, soft_limits
from kueue.wire.codec import to_os
from kueue.wire.messages import Context, OsString

_MAX_KNOWN_VOLUMES = 10_000


def context_of(environ: Mapping[str, str], extra: Mapping[str, str], *, clean: bool) -> bytes:
    """The encoded `Context` for a job: what it inherits of `environ`, `extra` on top, umask and soft limits of
    this process. Equal contents encode equally.

    Raises:
        UsageError: a name or value of `extra` can't be one.
    """
    pairs = inherited_environment(environ, extra, clean=clean)
    env = tuple((to_os(name), to_os(value)) for name, value in pairs)
    return msgspec.json.encode(Context(env=env, umask=current_umask(), limits=soft_limits()))


def digest_of(context: bytes) -> str:
    """How jobs refer to an encoded `Context`."""
    return hashlib.sha256(context).hexdigest()


class Volumes:
    """Volumes of many directories, as the wire has them: neighbours look up what is above them once."""

    def __init__(self) -> None:
        self._known: dict[str, OsString] = {}

    def of(self, directory: str) -> OsString:
        """As `volume_of`."""
        known = self._known.get(directory)
        if known is None:
            if len(self._known) > _MAX_KNOWN_VOLUMES:
                self._known.clear()
            known = self._known[directory] = self._look_up(directory)
        return known

    def _look_up(self, directory: str) -> OsString:
        parent = directory.rpartition("/")[0]
        try:
            if parent in ("", "/") or os.path.ismount(directory):
                return to_os(volume_of(directory))
        except (OSError, ValueError):
            return to_os(volume_of(directory))
        above = self._known.get(parent)
        if above is None:
            above = self._known[parent] = to_os(volume_of(parent))
        return above

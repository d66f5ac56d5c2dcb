"""What a job inherits, encoded: a blob that the jobs which share it refer to by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from kueue.inherited import current_umask, inherited_environment, soft_limits
from kueue.wire.codec import to_os
from kueue.wire.messages import Context


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

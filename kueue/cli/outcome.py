"""What becomes of a command's errors: a line on stderr and a code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from kueue.errors import KueueError

OURS = 125
"""Exit code of `cmd --wait` for whatever is not the command's own doing."""


def outcome(call: Callable[[], object], *, usage_code: int = 2) -> int:
    """The exit code of `call`, which is what it returns, if a number, or that of its error.

    `usage_code` is for the complaints of typer's parser, recognised by how they are made.
    """
    try:
        result = call()
    except KueueError as error:
        return _fail(str(error), error.exit_code)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        told = getattr(error, "format_message", None)
        if told is not None:
            return _fail(told() or "which command? kueue --help shows them", usage_code)
        if os.environ.get("KUEUE_DEBUG"):
            raise
        return _fail(f"a fault of Kueue: {error!r}; KUEUE_DEBUG=1 shows where", 1)
    return result if isinstance(result, int) else 0


def _fail(text: str, code: int) -> int:
    from kueue.text import visible

    sys.stdout.flush()
    sys.stderr.write(f"kueue: {visible(text)}\n")
    return code

"""What is sent to a machine: a constant command for any login shell, and the text of `remote/` on its input.

The command reads one line, the Python to use, which is an argument of `exec` and never a part of a shell line;
bash, dash, zsh, csh and fish take the words in its quotes alike.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from pathlib import Path

from kueue.supervise.remote import orders

COMMAND = (
    "exec /bin/sh -c 'IFS= read -r python;"
    ' for each in "$python" python3 /usr/bin/python3;'
    ' do command -v "$each" >/dev/null 2>&1 && exec "$each" -I -S -c'
    ' "import sys; read = sys.stdin.buffer; exec(read.read(int(read.readline())))"; done;'
    f' echo "{orders.MARK}{{\\"fault\\": \\"no Python 3 there\\"}}"\''
)
PACKAGES = ("kueue", "kueue.supervise", "kueue.supervise.remote")
MODULES = ("processes", "locks", "sessions", "orders")

_LOADER = """\
import sys, types
for name in packages:
    sys.modules[name] = types.ModuleType(name)
for name, text in modules:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)
module.main()
"""


@functools.cache
def program() -> bytes:
    """What goes to the standard input before the first order."""
    package = PACKAGES[-1]
    texts = [(f"{package}.{name}", _text(f"{package}.{name}")) for name in MODULES]
    code = f"packages = {PACKAGES!r}\nmodules = {texts!r}\n{_LOADER}".encode()
    return f"{sys.executable}\n{len(code)}\n".encode() + code


def encoded(order: str, **words: object) -> bytes:
    """An order as a line."""
    return json.dumps({"order": order, **words}).encode() + b"\n"


def _text(module: str) -> str:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text("utf-8")

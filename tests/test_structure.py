"""The shape of the sources: imports go one way, the cores are pure, files stay readable.

The rules are those of `docs/architecture.md`. They are checked on the text of the sources, so that an import
inside a function counts, too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kueue", "kueue_server", "kueue_worker")
MAX_LINES = 450
MAX_TEST_LINES = 800
LONG = frozenset({"kueue/wire/messages.py"})
"""Files that are one table, which nobody reads through: longer than others, and better whole."""
ORDER = (
    ("kueue.errors",),
    ("kueue.resources",),
    ("kueue.job",),
    ("kueue.wire",),
    ("kueue.client", "kueue.async_client"),
    ("kueue.cli", "kueue.__main__"),
)
"""Each of these may import from those before it, never from those after it; nothing else imports the last."""
CLIENTS = ("kueue.client", "kueue.async_client", "kueue.cli", "kueue.__main__")
IMPURE = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "subprocess", "threading", "uvloop"),
        *("datetime", "random", "secrets", "time", "uuid"),
        *(
            "ctypes",
            "fcntl",
            "os",
            "pathlib",
            "psutil",
            "resource",
            "select",
            "selectors",
            "shutil",
            "socket",
        ),
        *("logging", "sqlite3", "ssl", "tempfile"),
    }
)
"""What a pure core must not touch: input and output, clocks, chance, other threads."""
PURE = frozenset(f"kueue.supervise.{name}" for name in ("hosts", "pauses", "plan", "seen"))
"""Pure modules without a core of their own around them."""
VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "misc", "common", "tools", "stuff"})


class Import(NamedTuple):
    """One import. `lazy`: inside a function, or for type checkers only."""

    name: str
    line: int
    lazy: bool


@cache
def modules() -> dict[str, Path]:
    """Name and file of every module of the packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text("utf-8"))


def imports_below(node: ast.AST, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        below = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            below = True
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, below) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute here"
            base = child.module or ""
            for alias in child.names:
                # `from package import module` imports the module, `from module import name` the module, too.
                full = f"{base}.{alias.name}"
                yield Import(full if full in modules() else base, child.lineno, below)
        else:
            yield from imports_below(child, below)


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(imports_below(tree(module), False))


def is_in(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def is_of_a_core(module: str) -> bool:
    return "core" in module.split(".") or module in PURE


def test_all_sources_are_found() -> None:
    assert set(PACKAGES) <= set(modules())
    assert "kueue.wire.messages" in modules()
    assert any(is_of_a_core(module) for module in modules())
    assert any(found.name == "kueue.config_model" for found in imports("kueue.config"))
    assert any(found.lazy and found.name == "kueue.client" for found in imports("kueue.local"))


@pytest.mark.parametrize("module", modules())
def test_the_vocabulary_the_wire_and_the_client_import_one_way(module: str) -> None:
    rank = next((number for number, places in enumerate(ORDER) if is_in(module, places)), len(ORDER) - 2)
    later = tuple(place for places in ORDER[rank + 1 :] for place in places)
    wrong = [f"line {found.line}: {found.name}" for found in imports(module) if is_in(found.name, later)]
    assert not wrong, f"{module} imports what is built on it: {wrong}"


@pytest.mark.parametrize("module", modules())
def test_client_and_daemons_do_not_import_each_other(module: str) -> None:
    forbidden: tuple[str, ...] = tuple(package for package in PACKAGES[1:] if not is_in(module, (package,)))
    if not is_in(module, ("kueue",)):
        forbidden += CLIENTS
    wrong = [f"line {found.line}: {found.name}" for found in imports(module) if is_in(found.name, forbidden)]
    assert not wrong, f"{module} imports what it must not know: {wrong}"


@pytest.mark.parametrize("module", [module for module in modules() if is_of_a_core(module)])
def test_a_core_imports_nothing_that_waits_reads_a_clock_or_touches_a_device(module: str) -> None:
    package = module.partition(".core")[0]
    for found in imports(module):
        top = found.name.partition(".")[0]
        assert top not in IMPURE, f"{module}, line {found.line}: {found.name}"
        if top in PACKAGES:
            own = is_in(found.name, (f"{package}.core",))
            shared = is_in(found.name, ("kueue",)) and not is_in(found.name, CLIENTS)
            assert own or shared, f"{module}, line {found.line}: {found.name} is part of the shell"
            inner = (
                [i.name for i in imports(found.name) if i.name.partition(".")[0] in IMPURE] if shared else []
            )
            assert not inner, f"{module}, line {found.line}: {found.name} brings in {inner}"


@pytest.mark.parametrize(
    "module", [module for module in modules() if is_in(module, ("kueue_worker.keeper",))]
)
def test_the_keeper_imports_the_standard_library_only(module: str) -> None:
    for found in imports(module):
        top = found.name.partition(".")[0]
        own = is_in(found.name, ("kueue_worker.keeper",))
        assert own or top in sys.stdlib_module_names, f"{module}, line {found.line}: {found.name}"


def test_there_are_no_import_circles() -> None:
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module in done:
            return
        for found in imports(module):
            if not found.lazy and found.name in modules() and found.name != module:
                visit(found.name, (*above, module))
        done.add(module)

    for module in modules():
        visit(module, ())


def sources() -> list[Path]:
    """Every Python file that people read: the packages, the tools, the tests."""
    folders = (*PACKAGES, "tools", "benchmarks", "examples", "tests")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_named_after_things_and_say_why_they_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    limit = MAX_TEST_LINES if path.is_relative_to(ROOT / "tests") else MAX_LINES
    length = len(text.splitlines())
    assert length <= limit or str(path.relative_to(ROOT)) in LONG, "look for the second subject and split"
    assert path.stem not in VAGUE_NAMES
    assert not text or ast.get_docstring(ast.parse(text)), "a module's first sentence says its subject"


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice

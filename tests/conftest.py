"""For all tests: nothing of the user's own is read or written, and in CI nothing is skipped in silence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
NEVER_SKIPPED = ("integration", "acceptance", "simulation", "faults", "hostile", "cluster")
"""Suites that show promises to users: in CI (`CI=true`) a skip there is a failure."""

# Tests import what is installed; the checkout comes last, for `tests.support` and runs without installing.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

import kueue  # noqa: E402 (after the path is set)

# Where a shell starts us in the background, it has Ctrl-C ignored, and all that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`: what is a sample in every run is done in full."""
    parser.addoption("--long", action="store_true", help="the long form of fault and simulation runs")


def pytest_configure(config: pytest.Config) -> None:
    """A mark for what has no short form; it is left out, not skipped."""
    config.addinivalue_line("markers", "only_long: only with --long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has no short form."""
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("only_long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_xdist_auto_num_workers() -> int:
    """Tests mostly wait, for programs and for deadlines: more at a time than there are cores. `-n 0`: one."""
    return min(8, 2 * (os.cpu_count() or 1))


@pytest.fixture(scope="session")
def long_form(request: pytest.FixtureRequest) -> bool:
    """Was `--long` given?"""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session", autouse=True)
def places_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No configuration, state or variable of whoever runs the tests plays a part in them."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith("KUEUE_"):
            patch.delenv(name)
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        patch.delenv(name, raising=False)
    if Path(kueue.__file__).resolve().is_relative_to(ROOT / "kueue"):
        # Run from a checkout: the programs that tests start in other directories find it, too.
        places = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        patch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, places)))
    patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    patch.setenv("XDG_STATE_HOME", str(home / "state"))
    yield
    patch.undo()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failure where nothing may be skipped."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _must_run(item):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI that counts as failed: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if report.skipped and _must_run(collector):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI that counts as failed: {report.longrepr}"
    return report


def _must_run(node: pytest.Item | pytest.Collector) -> bool:
    if not os.environ.get("CI"):
        return False
    parts = node.path.relative_to(ROOT).parts if node.path.is_relative_to(ROOT) else node.path.parts
    return any(name in parts or node.get_closest_marker(name) is not None for name in NEVER_SKIPPED)

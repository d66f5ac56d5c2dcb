"""The benchmarks run: each question gives figures. How good those are is nothing that a test could say."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import report, running
from benchmarks.answers import Answer, Figure, Goal
from benchmarks.machine import Machine, this_machine
from benchmarks.peers import peers
from benchmarks.questions import host_checks

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "benchmarks" / "README.md"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", running.names())
def test_a_quick_run_gives_figures(name: str, tmp_path: Path) -> None:
    if name == "host_checks" and host_checks.why_not():
        pytest.skip(host_checks.why_not())
    file = tmp_path / "run.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--json", file, "--plots", tmp_path],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(file.read_bytes())["results"]
    assert result["name"] == name
    assert result["answer"]["figures"]
    for figure in result["answer"]["figures"]:
        assert all(math.isfinite(value) for value in figure["values"]), figure
    for goal in result["answer"]["goals"]:
        assert math.isfinite(goal["value"]), goal
    assert len(list(tmp_path.glob("*.svg"))) == len(result["answer"]["curves"])


def run_of(answer: Answer | None) -> report.Run:
    machine = Machine("a CPU", 2, 8.0, "Linux 6", "ext4", 0.1)
    result = report.Result("speed", "How fast is it?", 1.5, answer)
    return report.Run("2026-01-02 03:04", False, machine, {"Python": "3.11"}, [result])


def an_answer() -> Answer:
    jobs, limit = Figure("jobs", "1/s", (850.0, 900.0, 870.0)), Figure("limit", "1/s", (1000.0,))
    return Answer(
        figures=[jobs, limit],
        goals=[Goal(jobs, 0.85, "at least", limit), Goal(jobs, 800, "at most")],
        notes=["a note"],
        curves={"growth/a & b": {"one": [(1.0, 2.0), (10.0, 3.0)]}},
        axes={"growth/a & b": ("jobs", "s")},
    )


def test_of_a_question_in_several_runs_the_last_answer_counts() -> None:
    def run(date: str, **values: float) -> report.Run:
        answers = {name: Answer([Figure("speed", "1/s", (value,))]) for name, value in values.items()}
        results = [report.Result(name, "?", 1.0, answer) for name, answer in answers.items()]
        return report.Run(date, False, this_machine(), {}, results)

    both = report.Run.of_all([run("2026-11-20 10:00", a=1.0, b=2.0), run("2026-11-21 11:00", a=3.0)])
    assert [(result.name, result.answer and result.answer.figures[0].median) for result in both.results] == [
        ("a", 3.0),
        ("b", 2.0),
    ]
    assert both.date == "2026-11-20 and 2026-11-21"


def test_results_are_saved_and_read_again(tmp_path: Path) -> None:
    run = run_of(an_answer())
    run.save(tmp_path / "run.json")
    assert report.Run.load(tmp_path / "run.json") == run
    goals = json.loads((tmp_path / "run.json").read_bytes())["results"][0]["answer"]["goals"]
    assert [(goal["value"], goal["reached"]) for goal in goals] == [(0.87, True), (870.0, False)]


def test_plots_are_files_of_their_own(tmp_path: Path) -> None:
    (path,) = report.write_plots(run_of(an_answer()), tmp_path)
    assert path.name == "speed-growth-a-b.svg"
    assert "polyline" in path.read_text()


def test_the_readme_gets_the_figures_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(README.read_text())
    report.write_readme(run_of(None), path)
    report.write_readme(run_of(an_answer()), path)
    text = path.read_text()
    assert "| jobs | 870 | 850 – 900 | 1/s |" in text
    assert "| jobs / limit | 0.870 | ≥ 0.85 | reached |" in text
    assert "| jobs | 870 | ≤ 800 | **not reached** |" in text
    assert "It failed to run." not in text
    assert text.partition("<!-- figures -->")[0] == README.read_text().partition("<!-- figures -->")[0]


def test_a_question_that_fails_to_run_is_told_and_costs_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "run", lambda name, quick: None)
    name = running.names()[0]
    assert command.main([name, "--quick", "--json", str(tmp_path / "run.json")]) == 1
    assert "failed to run" in capsys.readouterr().out
    assert command.main(["--results", str(tmp_path / "run.json")]) == 1


def test_a_goal_that_is_not_reached_is_told_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "run", lambda name, quick: an_answer())
    assert command.main([running.names()[0], "--quick"]) == 0
    assert "not reached" in capsys.readouterr().out


def test_a_full_run_on_a_busy_machine_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "run", lambda name, quick: an_answer())
    monkeypatch.setattr("os.getloadavg", lambda: (2.0, 1.0, 1.0))
    command.main([running.names()[0]])
    assert "not idle" in capsys.readouterr().err


def test_a_question_that_cannot_even_be_imported_only_fails_itself(tmp_path: Path) -> None:
    assert running.run("there_is_no_such_question", quick=True) is None


def test_the_machine_is_known() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores > 0
    assert machine.file_system != "unknown"


def test_the_readme_has_every_question() -> None:
    told = set(re.findall(r"`(\w+)`", README.read_text()))
    assert set(running.names()) <= told


def test_every_peer_says_whether_it_is_there() -> None:
    for name, peer in peers().items():
        reason = peer.available()
        assert reason is None or reason, name
        assert reason or hasattr(peer, "jobs_per_second"), name

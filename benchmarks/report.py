"""Results of a run, as JSON, as a table, as plots, and as the part of README.md that has the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.answers import Answer, Figure, Goal
from benchmarks.machine import Machine
from tests.support.plot import plot

FIGURES = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)
UNSAFE = re.compile(r"[^0-9A-Za-z]+")


@dataclass(frozen=True)
class Result:
    """Of one question. `answer` None: it failed to run."""

    name: str
    question: str
    seconds: float
    answer: Answer | None


@dataclass(frozen=True)
class Run:
    """All of a run. `date`: of its begin, UTC."""

    date: str
    quick: bool
    machine: Machine
    versions: dict[str, str]
    results: list[Result]

    def save(self, path: Path) -> None:
        """Write it as JSON, with the value of each goal and whether it was reached beside what they are of."""
        tree = msgspec.to_builtins(self)
        for result, told in zip(self.results, tree["results"], strict=True):
            if result.answer is not None:
                for figure, as_told in zip(result.answer.figures, told["answer"]["figures"], strict=True):
                    as_told["median"] = figure.median
                for goal, as_told in zip(result.answer.goals, told["answer"]["goals"], strict=True):
                    as_told |= {"value": goal.value, "reached": goal.reached}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        """What `save` wrote.

        Raises:
            OSError, msgspec.DecodeError: there is none.
        """
        return msgspec.json.decode(path.read_bytes(), type=cls)

    @classmethod
    def of_all(cls, runs: Sequence[Run]) -> Run:
        """One of several on one machine. Of a question that more than one of them asked the last answer counts."""
        results = {result.name: result for run in runs for result in run.results}
        first = runs[0]
        return Run(
            date=" and ".join(dict.fromkeys(run.date[:10] for run in runs)),
            quick=any(run.quick for run in runs),
            machine=replace(first.machine, load=max(run.machine.load for run in runs)),
            versions=first.versions,
            results=sorted(results.values(), key=lambda result: result.name),
        )


def number(value: float) -> str:
    """With three significant digits, or all before the point."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.2g}"


def spread_of(figure: Figure) -> str:
    """Least and most, where there is more than one value."""
    low, high = figure.spread
    return f"{number(low)} – {number(high)}" if len(figure.values) > 1 else ""


def name_of(goal: Goal) -> str:
    """What it is about."""
    return f"{goal.of.name} / {goal.over.name}" if goal.over is not None else goal.of.name


def wanted(goal: Goal) -> str:
    """The goal itself, e.g. `≥ 0.85`."""
    return f"{'≥' if goal.sense == 'at least' else '≤'} {goal.limit:,.10g}"


def show_result(console: Console, result: Result) -> None:
    """Print a result as a table."""
    console.print(f"\n[bold]{escape(result.name)}[/bold]: {escape(result.question)}", highlight=False)
    if result.answer is None:
        console.print("[red]failed to run[/red]")
        return
    table = Table(box=None, pad_edge=False)
    for title, justify in (("", "left"), ("median", "right"), ("least – most", "right"), ("unit", "left")):
        table.add_column(title, justify="right" if justify == "right" else "left")
    table.add_column("goal", overflow="fold")
    for figure in result.answer.figures:
        table.add_row(escape(figure.name), number(figure.median), spread_of(figure), figure.unit, "")
    for goal in result.answer.goals:
        verdict = "[green]reached[/green]" if goal.reached else "[red]not reached[/red]"
        unit = goal.of.unit if goal.over is None else ""
        row = (escape(name_of(goal)), number(goal.value), "", unit, f"{wanted(goal)} {verdict}")
        table.add_row(*row, style="bold")
    console.print(table, highlight=False)
    for note in result.answer.notes:
        console.print(f"  {escape(note)}", style="dim", highlight=False)


def write_plots(run: Run, directory: Path) -> list[Path]:
    """A file for each plot, `QUESTION-PLOT.svg`."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for result in run.results:
        answer = result.answer
        for name, lines in answer.curves.items() if answer is not None else ():
            assert answer is not None
            x_name, y_name = answer.axes.get(name, ("", ""))
            samples = [(x, line, y) for line, points in lines.items() for x, y in points]
            path = directory / f"{UNSAFE.sub('-', f'{result.name}-{name}').strip('-')}.svg"
            path.write_text(plot(samples, x_name, y_name))
            written.append(path)
    return written


def write_readme(run: Run, path: Path) -> None:
    """Put the figures where README.md has its place for them."""
    text, count = FIGURES.subn(
        lambda found: found[1] + "\n".join(_markdown(run)) + found[2], path.read_text()
    )
    assert count == 1, f"{path} has no place for figures"
    path.write_text(text)


def _markdown(run: Run) -> Iterator[str]:
    machine = run.machine
    yield ""
    yield (
        f"{run.date}{' (quick: for a smoke run only)' if run.quick else ''}, {machine.cpu}, {machine.cores} cores,"
        f" {machine.memory_gb} GB, {machine.kernel}, {machine.file_system}, load before {machine.load:.2f}; "
        + ", ".join(f"{name} {version}" for name, version in run.versions.items())
        + "."
    )
    for result in run.results:
        yield f"\n### `{result.name}`\n\n{result.question}\n"
        if result.answer is None:
            yield "It failed to run."
            continue
        yield "| | median | least – most | unit |\n|---|---:|---:|---|"
        for figure in result.answer.figures:
            yield f"| {figure.name} | {number(figure.median)} | {spread_of(figure)} | {figure.unit} |"
        if result.answer.goals:
            yield "\n| goal | is | should be | |\n|---|---:|---:|---|"
        for goal in result.answer.goals:
            verdict = "reached" if goal.reached else "**not reached**"
            yield f"| {name_of(goal)} | {number(goal.value)} | {wanted(goal)} | {verdict} |"
        yield "".join(f"\n- {note}" for note in result.answer.notes)
    yield "\n"

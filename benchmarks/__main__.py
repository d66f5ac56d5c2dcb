"""`python -m benchmarks`: run the questions, each in a process of its own, and show what they found.

Exit code 1 if one failed to run. A goal that is not reached is a finding and no failure.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import report, running
from benchmarks.machine import MOST_LOAD, this_machine, versions
from benchmarks.places import places_of_a_run

README = Path(__file__).with_name("README.md")


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit code."""
    options = _parse(arguments)
    console = Console()
    if options.list:
        for name in options.names or running.names():
            console.print(f"[bold]{name}[/bold]: {running.question_of(name)}", highlight=False)
        return 0
    if options.results is not None:
        try:
            run = report.Run.load(options.results)
        except (OSError, msgspec.DecodeError) as error:
            print(f"{options.results}: {error}", file=sys.stderr)
            return 1
        for result in run.results:
            report.show_result(console, result)
    else:
        with places_of_a_run():
            run = _run(console, options.names or running.names(), options.quick, options.json)
    if options.plots is not None:
        for path in report.write_plots(run, options.plots):
            console.print(str(path), highlight=False)
    if options.readme:
        report.write_readme(run, README)
    return int(any(result.answer is None for result in run.results))


def _run(console: Console, names: list[str], quick: bool, file: Path | None) -> report.Run:
    """Saved after each question: a run takes long, and may be cut off."""
    machine = this_machine()
    if machine.load > MOST_LOAD and not quick:
        warning = (
            f"the machine is not idle (load {machine.load:.2f}): other programs take part in what is measured"
        )
        print(f"warning: {warning}", file=sys.stderr)
    run = report.Run(
        date=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M}",
        quick=quick,
        machine=machine,
        versions=versions(),
        results=[],
    )
    for name in names:
        begin = time.monotonic()
        answer = running.run(name, quick)
        seconds = time.monotonic() - begin
        result = report.Result(name, running.question_of(name), round(seconds, 1), answer)
        run.results.append(result)
        report.show_result(console, result)
        if file is not None:
            run.save(file)
    return run


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast is Kueue?")
    known = running.names()
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions; all if there is none")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run of seconds; its figures mean little"
    )
    parser.add_argument("--list", action="store_true", help="say what the questions are, and run none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write plots of how costs grow there")
    parser.add_argument("--readme", action="store_true", help="write the figures into benchmarks/README.md")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="run nothing, take what --json wrote at another time"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such question: {', '.join(unknown)} (there are: {', '.join(known)})")
    return options


if __name__ == "__main__":
    sys.exit(main())

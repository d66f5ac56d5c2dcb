"""Runs of the simulation by hand: one seed with its story, or a campaign over many."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import traceback
from pathlib import Path

from tests.simulation.campaign import campaign, seeds_done, total
from tests.simulation.mutants import MUTANTS
from tests.simulation.schedule import draw
from tests.simulation.shrinking import shrink
from tests.simulation.simulation import Outcome, run


def main() -> int:
    """Exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one; tells the story if it fails")
    parser.add_argument("--story", action="store_true", help="tell the story of a run that went well, too")
    parser.add_argument("--shrink", action="store_true", help="look for the fewest actions that fail alike")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this fault in the product")
    parser.add_argument("--seeds", metavar="FIRST-LAST", help="a campaign")
    parser.add_argument("--until", type=int, metavar="SEED", help="a campaign from where --record ends")
    parser.add_argument("--processes", type=int, default=1, help="side by side (default: 1)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append the figures to this file")
    parser.add_argument("--total", action="store_true", help="add up the figures of --record")
    options = parser.parse_args()
    if options.total:
        print(json.dumps(total(options.record), indent=2))
        return 0
    if options.seed is not None:
        with MUTANTS[options.mutant].planted() if options.mutant else contextlib.nullcontext():
            return _replay(options.seed, told=options.story, small=options.shrink)
    if options.until is not None:
        first, last = seeds_done(options.record), options.until
    elif options.seeds:
        first, last = map(int, options.seeds.split("-"))
    else:
        parser.error("--seed, --seeds, --until or --total")
    failed: list[int] = []
    for part in campaign(first, last, options.processes, options.record):
        failed += part["failed"]
        print(
            f"{part['first']}-{part['last']}: {part['steps']} steps, failed: {part['failed'] or 'none'}",
            flush=True,
        )
    return 1 if failed else 0


def _replay(seed: int, *, told: bool, small: bool) -> int:
    outcome = run(draw(seed))
    if outcome.problem is not None and small:
        before = len(outcome.schedule.actions)
        outcome = shrink(outcome)
        print(f"{before} actions cut down to {len(outcome.schedule.actions)}:")
        for action in outcome.schedule.actions:
            print(f"  {action.at:8.3f}  {action}")
    if outcome.problem is None:
        print(
            f"seed {seed}: all promises kept in {outcome.seconds:.0f} simulated seconds, {outcome.steps} steps"
        )
    else:
        _tell(seed, outcome)
    if told and outcome.problem is None:
        print("\n".join(outcome.story))
    return 0 if outcome.problem is None else 1


def _tell(seed: int, outcome: Outcome) -> None:
    print("\n".join(outcome.story))
    if isinstance(outcome.problem, BaseException):
        traceback.print_exception(outcome.problem, file=sys.stdout)
    print(f"seed {seed}: {outcome.problem}")


if __name__ == "__main__":
    sys.exit(main())

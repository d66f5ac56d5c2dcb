"""The environment that a job gets: the submitter's, less what holds only there, plus what Kueue tells it.

What belongs to the submitter's session has been left out by the client already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kueue.wire.codec import from_os
from kueue.wire.messages import Context, Spec
from kueue_worker.core.events import Note

OURS = frozenset(
    {"PWD", "OLDPWD", "KUEUE_JOB_ID", "KUEUE_ATTEMPT", "KUEUE_CPUS", "KUEUE_RAM_MB", "KUEUE_ARRAY_INDEX"}
)
OUR_PREFIXES = ("KUEUE_RESOURCE_", "KUEUE_WORKER", "KUEUE_FENCE")
GPU = "gpu"


def base_environment(context: Context, keep_tmpdir: bool) -> list[tuple[str, str]]:
    """What all jobs of one context share. Without what Kueue itself sets: a job submitted from within a job
    does not inherit that one's. `keep_tmpdir`: its TMPDIR exists on this machine."""
    pairs = [(from_os(name), from_os(value)) for name, value in context.env]
    return [
        (name, value)
        for name, value in pairs
        if name
        and "=" not in name
        and name not in OURS
        and not name.startswith(OUR_PREFIXES)
        and (keep_tmpdir or name != "TMPDIR")
    ]


def own_environment(
    spec: Spec, note: Note, worker: str, cwd: str, names: Iterable[str]
) -> list[tuple[str, str]]:
    """What differs from job to job. `names`: what the job's own environment has set already."""
    shape = spec.shape
    pairs = [
        ("PWD", cwd),
        ("KUEUE_JOB_ID", str(note.job)),
        ("KUEUE_ATTEMPT", str(note.attempt)),
        ("KUEUE_CPUS", str(shape.cpus)),
        ("KUEUE_RAM_MB", str(shape.ram_mb)),
        ("KUEUE_WORKER", worker),
    ]
    if spec.array_index is not None:
        pairs.append(("KUEUE_ARRAY_INDEX", str(spec.array_index)))
    if "OMP_NUM_THREADS" not in names:
        pairs.append(("OMP_NUM_THREADS", str(max(1, shape.cpus))))
    units = dict(note.units)
    for name, amount in shape.resources:
        value = ",".join(units[name]) if name in units else str(amount)
        pairs.append((f"KUEUE_RESOURCE_{variable_part(name)}", value))
        if name == GPU and name in units:
            pairs.append(("CUDA_VISIBLE_DEVICES", value))
    return pairs


def variable_part(name: str) -> str:
    """A resource's name as part of the name of a variable: `sim-pro.v2` becomes `SIM_PRO_V2`."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


def value_of(pairs: Iterable[tuple[str, str]], name: str, default: str) -> str:
    """A variable of an environment (the last one of that name)."""
    found = default
    for key, value in pairs:
        if key == name:
            found = value
    return found

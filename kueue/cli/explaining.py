"""`kueue explain`: why a job waits, and what each worker lacks for it."""

from __future__ import annotations

from typing import Annotated

import typer

from kueue.cli import shared_options
from kueue.cli.selecting import OneId, found_job, one_id
from kueue.cli.session import session_of


def explain(
    context: typer.Context,
    job: OneId,
    as_json: Annotated[bool, shared_options.JSON] = False,
) -> int:
    """Say why a job waits: what each worker lacks for it."""
    session = session_of(context)
    given = one_id(job)
    with session.connected() as client:
        found = client.explain(found_job(client, given))
    if as_json:
        from kueue.cli.listing import print_json
        from kueue.cli.render.json_rows import explanation_object

        print_json(explanation_object(found))
        return 0
    from kueue.cli.render.explanation import explanation_lines

    session.terminal.print(explanation_lines(found, session.terminal.width, colour=session.terminal.colour))
    return 0

"""`kueue explain`: why a job waits, and what each worker lacks for it."""

from __future__ import annotations

from kueue.cli.command import JSON, command
from kueue.cli.selecting import ONE_ID, found_job, one_id
from kueue.cli.session import Session


@command(ONE_ID, JSON)
def explain(session: Session, job: str, as_json: bool) -> int:
    """Say why a job waits: what each worker lacks for it."""
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

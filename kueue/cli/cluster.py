"""`list-workers`, `show-worker`, `list-resources`."""

from __future__ import annotations

from typing import Annotated

import typer

from kueue.cli import shared_options
from kueue.cli.listing import print_json, print_json_list
from kueue.cli.session import session_of


def list_workers(context: typer.Context, as_json: Annotated[bool, shared_options.JSON] = False) -> int:
    """List the workers."""
    session = session_of(context)
    terminal = session.terminal
    with session.connected() as client:
        workers = client.workers()
    if as_json:
        from kueue.cli.render.json_rows import worker_row

        print_json_list(map(worker_row, workers))
        return 0
    from kueue.cli.render.cluster import worker_lines

    if not workers:
        terminal.print(["no workers; start kueue_worker on each machine that is to run jobs"])
        return 0
    terminal.print(worker_lines(workers, terminal.width, colour=terminal.colour))
    return 0


def show_worker(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(metavar="ID", help="Its id, name, or host.")],
    as_json: Annotated[bool, shared_options.JSON] = False,
) -> int:
    """Show everything about a worker."""
    session = session_of(context)
    with session.connected() as client:
        detail = client.worker(worker)
    if as_json:
        from kueue.cli.render.json_rows import worker_object

        print_json(worker_object(detail))
        return 0
    from kueue.cli.render.cluster import worker_detail_lines

    session.terminal.print(worker_detail_lines(detail, colour=session.terminal.colour))
    return 0


def list_resources(context: typer.Context, as_json: Annotated[bool, shared_options.JSON] = False) -> int:
    """List licences and other global resources."""
    session = session_of(context)
    terminal = session.terminal
    with session.connected() as client:
        page = client.resources()
    if as_json:
        from kueue.cli.render.json_rows import resource_row

        print_json_list(map(resource_row, page.resources))
        return 0
    from kueue.cli.render.cluster import resource_lines

    terminal.print(resource_lines(page, terminal.width, colour=terminal.colour))
    return 0

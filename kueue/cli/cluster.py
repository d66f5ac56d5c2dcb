"""`list-workers`, `show-worker`, `list-resources`."""

from __future__ import annotations

from kueue.cli.command import JSON, Argument, command
from kueue.cli.listing import print_json, print_json_list
from kueue.cli.session import Session

ONE_WORKER = Argument("worker", "ID", "Its id, name, or host.")


@command(JSON)
def list_workers(session: Session, as_json: bool) -> int:
    """List the workers."""
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


@command(ONE_WORKER, JSON)
def show_worker(session: Session, worker: str, as_json: bool) -> int:
    """Show everything about a worker."""
    with session.connected() as client:
        detail = client.worker(worker)
    if as_json:
        from kueue.cli.render.json_rows import worker_object

        print_json(worker_object(detail))
        return 0
    from kueue.cli.render.cluster import worker_detail_lines

    session.terminal.print(worker_detail_lines(detail, colour=session.terminal.colour))
    return 0


@command(JSON)
def list_resources(session: Session, as_json: bool) -> int:
    """List licences and other global resources."""
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

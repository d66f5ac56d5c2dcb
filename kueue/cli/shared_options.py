"""Options that several commands share."""

from __future__ import annotations

import typer

JSON = typer.Option("--json", help="As JSON (docs/json.md).")

"""What `kueue --help` shows: the commands in families, a line each, so that all fit one screen."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from kueue.cli.render.table import styled

_NAMES = 15
"""Columns of the terminal."""


class Families(TyperGroup):
    """The commands, in families by their panels."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Nothing at all asks for help, too."""
        if not args:
            typer.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, families, options, exit codes."""
        width = max(40, formatter.width)
        colour = sys.stdout.isatty()
        families: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            family = getattr(command, "rich_help_panel", None) or "Others"
            families.setdefault(family, []).append((name, _first_sentence(command.help or "")))
        options = [
            (", ".join((*parameter.opts[1:], parameter.opts[0])), getattr(parameter, "help", None) or "")
            for parameter in self.get_params(ctx)
        ]
        lines = [_first_sentence(self.help or ""), ctx.get_usage(), ""]
        for title, rows in (*families.items(), ("Options", options)):
            lines.append(styled(title, "bold", colour))
            lines += [_fitted(f"  {name:<{_NAMES}} {text}", width) for name, text in rows]
        formatter.write("\n".join(lines) + "\n\n")
        formatter.write_text(self.epilog or "")


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n", 1)[0].split())


def _fitted(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"

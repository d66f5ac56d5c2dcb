"""The labs of the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import lab, make_lab

__all__ = ["lab", "make_lab"]

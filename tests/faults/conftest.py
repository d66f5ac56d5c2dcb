"""A lab of real programs for each test, as in the acceptance tests."""

from tests.acceptance.conftest import lab, make_lab

__all__ = ["lab", "make_lab"]

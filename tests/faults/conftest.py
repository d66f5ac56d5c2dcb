"""The lab of the acceptance tests, for faults."""

from tests.acceptance.conftest import lab, make_lab

__all__ = ["lab", "make_lab"]

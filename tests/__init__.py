"""Kueue's tests. A package, so that tests can share what is in `tests.support`."""

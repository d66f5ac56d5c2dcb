"""Kueue: a robust, user-level, work-stealing, distributed task scheduler."""

__version__ = "0.1.0"

"""Sent to each machine as text and run there: looks, launches, signals. The standard library alone, any Python 3.8.

Nothing of Kueue need be installed where it looks. It never runs a shell line that anything was put into.
"""

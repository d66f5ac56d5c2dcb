"""Faults on the real programs: processes that die or sleep, disks, networks and clocks that fail."""

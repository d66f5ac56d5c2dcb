"""The worker's decisions, pure: what to accept, hold, start, stop and report. Event in, instructions out."""

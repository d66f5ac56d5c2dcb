"""Coverage-guided fuzzing by hand: `python -m tests.hostile.fuzz frames --seconds 3600` (needs atheris)."""

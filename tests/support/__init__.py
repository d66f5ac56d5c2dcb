"""What several test suites share: a lab of real programs, waiting for conditions."""

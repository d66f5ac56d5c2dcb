"""How fast Kueue is, against a limit or a peer in the same run: `python -m benchmarks`. README.md says how."""

"""How fast it is, beside the same work done in other ways: `python -m benchmarks --help`, docs/performance.md."""

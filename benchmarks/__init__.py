"""Benchmarks of this system and of other ways to do the same work: docs/performance.md."""

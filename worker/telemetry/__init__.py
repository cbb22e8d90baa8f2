"""Traces, and the counters of a single process."""

"""Durable records of long tasks, which run in short slices."""

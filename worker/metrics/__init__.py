"""Prometheus metrics of the whole system, read from MongoDB and Redis."""

"""Reads requests and closings from the Redis intake stream."""

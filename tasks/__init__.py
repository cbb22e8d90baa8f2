"""Thin Celery tasks: decode, call the service, classify failure."""

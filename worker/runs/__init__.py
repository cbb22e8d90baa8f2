"""Processes the requests that one Celery message names. `run` calls the steps, which are the other modules."""

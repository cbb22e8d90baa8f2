"""The Celery tasks. Each decodes its message, calls the service and classifies errors; the logic is in `worker`."""

"""Extensions of Celery: the loader, the publisher and the batching of task events."""

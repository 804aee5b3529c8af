"""The Celery app, its thin tasks, the per-process runtime and the poller."""

"""The alert broadcaster: the second way to be told, by SMS, Slack and web push, when email is down."""

__version__ = "0.1.0"

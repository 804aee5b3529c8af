"""Stand-in providers: real HTTP servers that behave as Twilio, Slack and a push service do, and a mail system to watch.

Nothing here knows the product: the official SDKs talk to it over HTTP as they would to the real provider.
Start one with `server.start` (in a loop), `server.run` (a process) or `python -m broadcaster.sandbox`.
"""

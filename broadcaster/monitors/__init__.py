"""Monitors: each observes one thing, returns a reading, and decides nothing.

One module per kind; ``kinds`` lists them. The others are what kinds share: ``findings`` (codes, and how a look ends early),
``fields`` (the parts of configurations), ``connecting`` and ``tls`` (getting through to a server), ``lines``,
``smtp_talk`` and ``imap_talk`` (protocols), ``web`` and ``oauth`` (HTTP), ``probes`` (messages of our own), ``words``
(strangers' text).
"""

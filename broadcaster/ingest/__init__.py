"""Reads what other systems send and says it in our words: one module per foreign format, pure functions only.

``formats`` names them all. ``trees`` (JSON), ``elements`` (XML), ``times``, ``texts`` and ``signals`` are what they share.
"""

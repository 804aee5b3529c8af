"""Observes one thing, returns a reading, decides nothing: one module per kind of monitor."""

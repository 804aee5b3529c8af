"""Monitors as people and programs make them: the REST API and the command line, over real HTTP, on both databases."""

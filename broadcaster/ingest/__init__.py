"""Turns one foreign alert format into signals; pure functions."""

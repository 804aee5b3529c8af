"""The ``broadcaster`` command. Exit codes: 0 done, 1 it did not work out, 2 something to correct, 3 no answer."""

from broadcaster.cli.commands import main

__all__ = ["main"]

"""``python -m broadcaster.cli``."""

from broadcaster.cli.commands import main

main()

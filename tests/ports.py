"""Free loopback ports for servers that must be told theirs."""

import os
import socket
from typing import Final

#: Tests that run side by side take ports of different blocks of 16: between asking and using, nobody else is given the same.
#: (Not odd and even ones: Linux keeps one half of them for connections.)
_SIDES: Final = 2
_SIDE: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SIDES


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port // 16 % _SIDES == _SIDE:
                return port

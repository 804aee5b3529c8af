"""stub"""

import asyncio


async def reachable(host: str, port: int, timeout: float) -> bool:
    """Whether a TCP connection can be made within ``timeout`` seconds."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

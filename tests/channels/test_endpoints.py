import asyncio
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from broadcaster.channels.endpoints import Allowed, GuardedResolver, all_public, endpoint
from broadcaster.domain.messages import InvalidAddress

ALLOWED = Allowed(extra_hosts=("push.trust.example", "*.ntfy.example"), origins=("http://127.0.0.1:8092",))


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com/fcm/send/abc:DEF-_%20",
        "https://fcm.googleapis.com:443/fcm/send/abc",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAA",
        "https://web.push.apple.com/QG",
        "https://wns2-ln2p.notify.windows.com/w/?token=BQ%3d",
        "https://push.trust.example/x",
        "https://a.b.ntfy.example/x",
        "http://127.0.0.1:8092/push/wpush/v2/t",
    ],
)
def test_it_takes_known_push_services_byte_for_byte(url: str) -> None:
    assert str(endpoint(url, ALLOWED)) in (url, url.replace(":443", ""))


@pytest.mark.parametrize(
    "url",
    [
        "http://fcm.googleapis.com/x",
        "https://fcm.googleapis.com:8443/x",
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com/x",
        "https://xpush.apple.com/x",
        "https://push.apple.com.evil.example/x",
        "https://notify.windows.com/x",
        "https://ntfy.example/x",
        "https://user@fcm.googleapis.com/x",
        "https://user:pw@fcm.googleapis.com/x",
        "https://fcm.googleapis.com@evil.example/x",
        "https://evil.example#@fcm.googleapis.com/",
        "https://evil.example\\@fcm.googleapis.com/",
        "https://fcm.googleapis.com/x#frag",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
        "http://127.0.0.1:8093/x",
        "http://127.0.0.1:80928/x",
        "http://localhost:8092/x",
        "https://fcm.googleapis.com/\r\nX: y",
        "https://fcm.googleapis.com/a b",
        "https://f\u0441m.googleapis.com/x",
        "ftp://fcm.googleapis.com/x",
        "file:///etc/passwd",
        "//fcm.googleapis.com/x",
        "fcm.googleapis.com",
        "https://fcm.googleapis.com:99999/",
        "https://[",
        "",
        "https://fcm.googleapis.com/" + "x" * 3000,
    ],
)
def test_it_refuses_everything_else_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        endpoint(url, ALLOWED)
    assert not url or url not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("142.250.1.95", True),
        ("2a00:1450::5f", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:a00:1::", False),
        ("64:ff9b::a00:1", False),
    ],
)
def test_it_tells_public_addresses_from_the_rest(address: str, public: bool) -> None:
    assert all_public([address]) is public


class Fixed(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        base: Any = {"hostname": host, "port": port, "family": family, "proto": 0, "flags": 0}
        made: Any = [{**base, "host": address} for address in self.addresses]
        found: list[ResolveResult] = made
        return found

    async def close(self) -> None:
        pass


def test_a_name_with_one_private_address_is_refused_unless_exempt() -> None:
    async def main() -> None:
        mixed = Fixed("142.250.1.95", "10.0.0.1")
        with pytest.raises(OSError, match="not public"):
            await GuardedResolver(frozenset(), mixed).resolve("fcm.googleapis.com", 443)
        assert await GuardedResolver(frozenset({"sandbox"}), mixed).resolve("sandbox", 80)
        assert await GuardedResolver(frozenset(), Fixed("142.250.1.95")).resolve("fcm.googleapis.com", 443)

    asyncio.run(main())

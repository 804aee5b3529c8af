"""What is said in every part of the bench: an alert as an operator writes it, and what it is on each channel.

The blast and the naive way send what the product sends: a payload and a text of the same length, links and all.
"""

import json
from typing import Any, Final

TITLE: Final = "Email is down"
BODY: Final = "Use the phone list on the ward. Do not retry your password. Next update 10:30."
LINK: Final = "http://localhost:18080/m/9ix.cGxhY2Vob2xkZXI"
RECEIPT: Final = "http://localhost:18080/api/v1/receipts/push?d=9ix.1.cGxhY2Vob2xkZXI"
TEXT: Final = f"IT service desk: {TITLE}. {BODY} 10:00. Ref 0A1B2C3 {LINK}"

_NOTIFICATION: Final[dict[str, Any]] = {
    "title": TITLE, "body": BODY, "navigate": LINK, "tag": "a-0A1B2C3", "lang": "en-GB", "silent": False,
    "requireInteraction": False, "renotify": False,
    "data": {"receipt": RECEIPT, "delivery": "0A1B2C3", "alert": "01939d80-0000-7000-8000-000000000000"},
}  # fmt: skip
PAYLOAD: Final = json.dumps({"web_push": 8030, "notification": _NOTIFICATION}, separators=(",", ":")).encode()


def alert(audience: dict[str, Any], channels: list[str], severity: str = "high", title: str = TITLE) -> dict[str, Any]:
    return {"title": title, "body": BODY, "severity": severity, "audience": audience, "channels": channels}

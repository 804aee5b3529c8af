"""What a team would write today: one Celery task per person, the SDKs as their own documentation has them.

``celery -A tests.bench.naive worker -P prefork -c 2``; ``naive_view`` calls ``delay`` for everybody. Nothing is recorded,
nothing retried, no rate kept.
"""

import os
from typing import Any

import requests
from celery import Celery
from pywebpush import webpush
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

ORIGIN = os.environ.get("BENCH_ORIGIN", "")
VAPID_PRIVATE_KEY = os.environ.get("BENCH_VAPID_KEY", "")

app = Celery("naive", broker=os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/0"))
session = requests.Session()


class _ToTheSink(TwilioHttpClient):  # type: ignore[misc]
    """The one thing that is not as in Twilio's documentation: where it leads."""

    def request(self, method: str, url: str, *args: Any, **options: Any) -> Any:
        return super().request(method, url.replace("https://api.twilio.com", f"{ORIGIN}/twilio"), *args, **options)


client = Client("AC" + "5a" * 16, "secret", http_client=_ToTheSink())


@app.task  # type: ignore[untyped-decorator]
def send_push(subscription: dict[str, Any], data: str) -> None:
    webpush(
        subscription_info=subscription,
        data=data,
        vapid_private_key=VAPID_PRIVATE_KEY,
        vapid_claims={"sub": "mailto:bench@alert-broadcaster.invalid"},
        ttl=14_400,
        requests_session=session,
    )


@app.task  # type: ignore[untyped-decorator]
def send_sms(to: str, body: str, callback: str) -> None:
    client.messages.create(to=to, body=body, messaging_service_sid="MG" + "5a" * 16, status_callback=callback)

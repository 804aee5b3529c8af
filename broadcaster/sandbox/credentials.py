"""The sandbox's fixed, public credentials: they open nothing but a stand-in on this machine.

They are written down so that an embedded start and a test need no set-up. They look like the real thing in
shape (prefix and length) because clients may check the shape.
"""

from __future__ import annotations

ACCOUNT_SID = "AC" + "5a" * 16
"""Twilio account: `AC` and 32 hex digits."""

AUTH_TOKEN = "5a4db0c5" * 4
"""Twilio auth token, 32 hex digits: HTTP basic password and the key of `X-Twilio-Signature`."""

MESSAGING_SERVICE_SID = "MG" + "5a" * 16
"""The one messaging service that exists."""

SENDER_NUMBER = "+441632960100"
"""The default sender. 01632 960xxx is Ofcom's range for drama: nobody has it."""

SENDER_NUMBERS = (SENDER_NUMBER, "+441632960101", "+15005550006")
"""All numbers that belong to the account; the last is Twilio's own test sender."""

SENDER_NAME = "SANDBOX"
"""The one alphanumeric sender (at most 11 characters)."""

SLACK_TOKEN = "xoxb-sandbox-000000000000-broadcaster"  # noqa: S105 (opens nothing)
"""Slack bot token."""

NOTIFY_SERVICE_ID = "5a5a5a5a-5a5a-4a5a-8a5a-5a5a5a5a5a5a"
"""GOV.UK Notify service."""

NOTIFY_SECRET = "5a4db0c5-5a4d-4b0c-85a4-5a4db0c55a4d"  # noqa: S105 (opens nothing)
"""The secret half of its API key."""

NOTIFY_API_KEY = f"sandbox-{NOTIFY_SERVICE_ID}-{NOTIFY_SECRET}"
"""As Notify writes it: name, service and secret."""

NOTIFY_TEMPLATE_ID = "5a5a5a5a-0000-4000-8000-000000000001"
"""The one template; its whole text is ((message))."""

NOTIFY_CALLBACK_TOKEN = "sandbox-receipts-5a4db0c5"  # noqa: S105 (opens nothing)
"""The bearer token of its delivery receipts."""

MAIL_DOMAIN = "mail.sandbox.invalid"
"""The one domain that the sandbox's mail system takes mail for."""

MAIL_USER = "probe"
"""The account for monitors; its address is `probe@mail.sandbox.invalid`."""

MAIL_PASSWORD = "sandbox-mail-5a4db0c5"  # noqa: S105 (opens nothing)
"""Its password."""

MAIL_PASSWORDS = {MAIL_USER: MAIL_PASSWORD, "ward": "sandbox-ward-5a4db0c5"}
"""Every account."""

"""Slack's error strings, read by one question: could the message have been taken? Data only.

Source: https://docs.slack.dev/reference/methods/chat.postMessage#errors. A string that is not here counts as ambiguous
and is logged.
"""

from typing import Final

from broadcaster.domain.outcomes import Ambiguous, Rejected, Scope, Throttled


def _rejected(scope: Scope, reasons: dict[str, str]) -> dict[str, Rejected]:
    return {code: Rejected(scope, code, reason) for code, reason in reasons.items()}


#: The wait of a Throttled holds where the answer has no Retry-After.
SLACK_CODES: Final[dict[str, Rejected | Throttled | Ambiguous]] = {
    **_rejected(
        Scope.CHANNEL,
        {
            "invalid_auth": "Slack refuses our token",
            "not_authed": "No token was sent to Slack",
            "token_revoked": "The Slack token was revoked",
            "token_expired": "The Slack token has expired",
            "account_inactive": "The Slack app's account is switched off",
            "missing_scope": "The Slack app lacks a permission (scope)",
            "org_login_required": "The workspace is being moved to an organisation",
            "not_allowed_token_type": "This kind of Slack token may not post",
            "no_permission": "The Slack app may not post",
            "access_denied": "The Slack app may not post",
            "ekm_access_denied": "An administrator has suspended posting in the workspace",
            "team_access_not_granted": "The Slack app is not installed in the workspace",
            "messages_tab_disabled": "The Slack app's message tab is switched off",
        },
    ),
    **_rejected(
        Scope.ADDRESS,
        {
            "channel_not_found": "The channel or person does not exist, or the app cannot see it",
            "is_archived": "The channel is archived",
            "not_in_channel": "The app is not a member of the channel",
            "user_not_found": "The person does not exist",
            "user_disabled": "The person's account is switched off",
            "restricted_action": "The workspace does not let the app post there",
            "cannot_dm_bot": "A bot cannot be written to",
        },
    ),
    **_rejected(
        Scope.MESSAGE,
        {
            "msg_too_long": "The message is too long",
            "msg_blocks_too_long": "The message's blocks are too long",
            "no_text": "The message has no text",
            "invalid_blocks": "Slack does not accept the message's blocks",
            "invalid_arguments": "Slack does not accept an argument",
            "invalid_metadata_format": "Slack does not accept the message's metadata",
        },
    ),
    "ratelimited": Throttled(30.0, "ratelimited"),
    "rate_limited": Throttled(30.0, "rate_limited"),
    "message_limit_exceeded": Throttled(60.0, "message_limit_exceeded"),
    "internal_error": Ambiguous("internal_error", "Slack had a fault of its own"),
    "fatal_error": Ambiguous("fatal_error", "Slack had a fault of its own; part of it may have happened"),
    "service_unavailable": Ambiguous("service_unavailable", "Slack was not available"),
}

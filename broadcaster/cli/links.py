"""Signed links that the command line hands out."""

from itsdangerous import URLSafeTimedSerializer

from broadcaster.wiring import Wiring


def enter_link(wiring: Wiring, key_uid: str, page: str = "/console/alerts") -> str:
    """A link that signs in to the console as this API key; good for ten minutes."""
    token = URLSafeTimedSerializer(wiring.secret, salt="enter").dumps(key_uid)
    return f"{wiring.settings.resolved_public_url}/console/enter/{token}?next={page}"

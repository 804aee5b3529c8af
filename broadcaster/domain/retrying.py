"""When a delivery is tried or looked up again. Times in seconds."""

from typing import Final

#: Waits between attempts that were certainly not sent. After the last one the delivery has failed.
BACKOFF: Final = (1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0)

#: Longest a provider may take to answer one request (channels' time-outs stay below it).
REQUEST_DEADLINE: Final = 8.0

#: Look-ups of an uncertain attempt, counted from when it was marked: the second well after the request's own deadline.
#: Then every minute for a while: ten minutes of trouble left people waiting ten more for a look-up that would have told.
LOOKUPS: Final = (3.0, 2 * REQUEST_DEADLINE, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0, 1800.0)

#: Absences that must be seen, the last at or after LOOKUPS[1], before a message counts as not sent.
ABSENCES_NEEDED: Final = 2

#: A critical alert still unknown after this long is sent once more (a declared duplicate beats silence).
RESEND_UNCONFIRMED_AFTER: Final = 60.0


def backoff(attempt: int, jitter: float) -> float | None:
    """Wait after failed attempt number ``attempt`` (1-based), spread by ``jitter`` in [0, 1); None when spent."""
    if attempt > len(BACKOFF):
        return None
    return BACKOFF[attempt - 1] * (0.8 + 0.4 * jitter)


def lookup_wait(lookups: int) -> float:
    """Seconds from the attempt's marking until look-up number ``lookups`` (0-based)."""
    return LOOKUPS[min(lookups, len(LOOKUPS) - 1)] + 1800.0 * max(0, lookups - len(LOOKUPS) + 1)

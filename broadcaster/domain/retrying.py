"""When a delivery is tried or looked up again. Times in seconds."""

from typing import Final

#: Waits between attempts that were certainly not sent. After the last one the delivery has failed.
BACKOFF: Final = (1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0)

#: Longest a provider may take to answer one request (channels' time-outs stay below it).
REQUEST_DEADLINE: Final = 8.0

#: Longest from an attempt's marking to its first byte on the wire, where a repeat would reach somebody twice. A critical
#: batch keeps to the second.
MARK_TO_WIRE: Final = 4.0
CRITICAL_MARK_TO_WIRE: Final = 1.0

#: Look-ups of an uncertain attempt, counted from when it was marked: the second well after the request's own deadline.
#: Then every minute, and after ten every five: long trouble must not leave people waiting as long again once it is over.
LOOKUPS: Final = (3.0, 2 * REQUEST_DEADLINE, 30.0, *(60.0 * n for n in range(1, 11)))
LATER_LOOKUPS_EVERY: Final = 300.0

#: Those of a critical alert: the second as soon as no request can be under way any more. Whose sender died just before the
#: write waited 17 s for a message that nobody had; a provider that lists what it took later is the risk taken for it.
CRITICAL_LOOKUPS: Final = (3.0, CRITICAL_MARK_TO_WIRE + REQUEST_DEADLINE, *LOOKUPS[1:])

#: Absences that must be seen, the last at or after the second look-up's time, before a message counts as not sent.
ABSENCES_NEEDED: Final = 2
#: From the first absence to the look-up that may be the last: longer than providers' lists are behind.
BETWEEN_ABSENCES: Final = 5.0

#: So many attempts that ended as absent are repeated at once: a lone message needs them to find the next route.
_REPEATED_AT_ONCE: Final = 2
#: Critical, other. With ``certain_after`` the first stays below the minute after which a resend is declared.
LONGEST_PATIENCE: Final = {True: 45.0, False: 300.0}
_SLOWEST_COLLAPSING: Final = BACKOFF.index(60.0)  # somebody may still be told in time

#: A critical alert still unknown after this long is sent once more (a declared duplicate beats silence).
RESEND_UNCONFIRMED_AFTER: Final = 60.0


def backoff(attempt: int, jitter: float) -> float | None:
    """Wait after failed attempt number ``attempt`` (1-based), spread by ``jitter`` in [0, 1); None when spent."""
    if attempt > len(BACKOFF):
        return None
    return BACKOFF[attempt - 1] * (0.8 + 0.4 * jitter)


def collapsing_wait(tries: int) -> float:
    """Wait before a repeat that replaces the first, ``tries`` attempts having been spent before."""
    return BACKOFF[min(tries, _SLOWEST_COLLAPSING)]


def patience(repeats: int, *, critical: bool) -> float:
    """How much longer an uncertain attempt is looked for, when so many before it were repeated because they were absent.

    Nothing the first two times. Then longer and longer: where answers are lost and the provider's list is behind for longer
    than we wait, each repeat makes one message more.
    """
    if repeats < _REPEATED_AT_ONCE:
        return 0.0
    longest = LONGEST_PATIENCE[critical]
    return min(BACKOFF[min(repeats - _REPEATED_AT_ONCE + 1, len(BACKOFF) - 1)], longest)


def lookup_wait(lookups: int, *, critical: bool) -> float:
    """Seconds from the attempt's marking until look-up number ``lookups`` (0-based)."""
    waits = CRITICAL_LOOKUPS if critical else LOOKUPS
    return waits[min(lookups, len(waits) - 1)] + LATER_LOOKUPS_EVERY * max(0, lookups - len(waits) + 1)


def certain_after(*, critical: bool) -> float:
    """Seconds from the attempt's marking before which no absence is the last one needed."""
    return lookup_wait(1, critical=critical)

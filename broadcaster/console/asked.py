"""What several pages ask of the services: how things stand, why an alert was raised, and how this reader is told it."""

import time
from dataclasses import dataclass

from broadcaster.console import deciding, watching
from broadcaster.console.wired import Wired
from broadcaster.services.keys import Caller, Scope


@dataclass(frozen=True, slots=True)
class Why:
    """``what`` the alert is to its incident: alert, update, reminder, all_clear."""

    what: str
    incident: deciding.Shown


def readers_words(wiring: Wired) -> deciding.Words:
    """For whoever reads the page now."""
    labels = {channel.traits.name: channel.traits.label for channel in wiring.channels.first()}
    return deciding.Words(int(time.time() * 1000), wiring.settings.timezone, wiring.keys.name_of, labels)


def standing(wiring: Wired, caller: Caller) -> watching.Standing | None:
    """The line with counts; None where there is nothing to say."""
    watched = wiring.monitors.tally() if Scope.MONITORS_READ in caller.scopes else None
    return watching.standing(watched, wiring.incidents.tally())


def why(wiring: Wired, alert: str) -> Why | None:
    """For what an alert was raised; None: for nothing that is watched."""
    view = wiring.incidents.of_alert(alert)
    if view is None:
        return None
    what = next((what for what, uid in view.alerts if uid == alert), "alert")
    return Why(what, deciding.shown(view, readers_words(wiring)))

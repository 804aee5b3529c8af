"""Grafana's own alerting ("unified alerting"), contact point "Webhook": Alertmanager's shape and a few members more.

Shape: https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/::

    {"version": "1", "orgId": 1, "title": …, "state": "alerting|ok", "message": …, "alerts": [{as Alertmanager's, and
     "values": …, "silenceURL": …, "dashboardURL": …, "panelURL": …}], …}
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from broadcaster.domain.signal import Post, Signal
from broadcaster.ingest.alertmanager import read_alerts
from broadcaster.ingest.texts import BODY, paragraphs
from broadcaster.ingest.trees import read_json


class Grafana:
    name: Final = "grafana"
    label: Final = "Grafana"

    def read(self, post: Post, options: Mapping[str, str]) -> Sequence[Signal]:  # noqa: ARG002
        body = read_json(post.body)
        signals, message = read_alerts(body), body["message"].text()
        # The message is about the whole group: it is an alert's own text only where the group is that alert.
        if len(signals) == 1 and not signals[0].body:
            return [replace(signals[0], body=paragraphs(message, BODY))]
        return signals

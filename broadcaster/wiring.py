"""The one place that turns settings into objects. Made once per process, after any fork."""

import os
import secrets as random_secrets
from dataclasses import dataclass
from pathlib import Path

import structlog

from broadcaster.channels.push import WebPush, WebPushConfig, generate_vapid, public_key
from broadcaster.channels.slack import SlackConfig, SlackMessages
from broadcaster.channels.sms import TwilioConfig, TwilioSms
from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.queue import WakeUps
from broadcaster.services.alerts import Alerts
from broadcaster.services.delivering import Deliverer
from broadcaster.services.directory import Directory
from broadcaster.services.importing import Importer
from broadcaster.services.keys import Keys
from broadcaster.services.planning import Planner
from broadcaster.services.progress import Progress
from broadcaster.services.ratelimit import RateLimiter
from broadcaster.services.receipts import Receipts
from broadcaster.services.subscriptions import Subscriptions
from broadcaster.settings import Settings
from broadcaster.store.database import Database
from broadcaster.store.migrate import head_is_applied

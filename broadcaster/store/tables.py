"""The tables, as SQLAlchemy Core metadata. Migrations create them; a test holds the two together.

Conventions: ids are integers inside, ``uid`` is the UUIDv7 that the API shows. Times are integers, milliseconds since the
epoch, UTC: the same on SQLite and PostgreSQL, compared against the database's own clock. A directory row is valid from
``from_rev`` until before ``to_rev`` (NULL: still), so an audience can be read as it was at one revision.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from broadcaster.domain.lifecycle import STATES

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only numbers rows by itself in a column of type INTEGER.
_Id: Final = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[int]:
    return Column("id", _Id, primary_key=True, autoincrement=True)


def _current(column: str) -> dict[str, Any]:
    where = text(f"{column} IS NULL")
    return {"postgresql_where": where, "sqlite_where": where}


# ---- the directory -------------------------------------------------------------------------------------------------

directory = Table(
    "directory",
    metadata,
    Column("id", _Id, CheckConstraint("id = 1", name="one_row"), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    # An import writes its rows at revision + 1, invisible until it moves the revision; meanwhile it holds this lease.
    Column("import_owner", Text),
    Column("import_lease_until", BigInteger, nullable=False, server_default="0"),
    comment="one row: the directory's revision, and who is importing",
)

recipients = Table(
    "recipients",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("external_id", Text, comment="the customer's own number for this person, for example a staff number"),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("from_rev", BigInteger, nullable=False),
    Column("to_rev", BigInteger),
)
Index("uq_recipients_external_id_current", recipients.c.external_id, unique=True, **_current("to_rev"))
Index("ix_recipients_name", recipients.c.name)

contacts = Table(
    "contacts",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("recipient_id", _Id, ForeignKey("recipients.id"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False, comment="canonical; what the channel sends to"),
    Column("identity", Text, nullable=False, comment="what makes two addresses the same on this channel"),
    Column("masked", Text, nullable=False, comment="all that logs and pages show"),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("disabled_reason", Text, comment="opted_out, gone, invalid, unsubscribed"),
    Column("from_rev", BigInteger, nullable=False),
    Column("to_rev", BigInteger),
)
Index(
    "uq_contacts_current",
    contacts.c.recipient_id,
    contacts.c.channel,
    contacts.c.identity,
    unique=True,
    **_current("to_rev"),
)
Index("ix_contacts_identity", contacts.c.identity)
Index("ix_contacts_recipient", contacts.c.recipient_id)

push_subscriptions = Table(
    "push_subscriptions",
    metadata,
    Column("contact_id", _Id, ForeignKey("contacts.id"), primary_key=True, autoincrement=False),
    Column("endpoint_hash", Text, nullable=False, unique=True, comment="sha256 of the endpoint, hex"),
    Column("vapid_public_key", Text, nullable=False, comment="the applicationServerKey it was made with"),
    Column("user_agent", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("last_shown_at", BigInteger),
)

groups = Table(
    "groups",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("from_rev", BigInteger, nullable=False),
    Column("to_rev", BigInteger),
)
Index("uq_groups_name_current", groups.c.name, unique=True, **_current("to_rev"))

group_members = Table(
    "group_members",
    metadata,
    _id(),
    Column("group_id", _Id, ForeignKey("groups.id"), nullable=False),
    Column("recipient_id", _Id, ForeignKey("recipients.id"), nullable=False),
    Column("from_rev", BigInteger, nullable=False),
    Column("to_rev", BigInteger),
)
Index(
    "uq_group_members_current",
    group_members.c.group_id,
    group_members.c.recipient_id,
    unique=True,
    **_current("to_rev"),
)
Index("ix_group_members_recipient", group_members.c.recipient_id)

recipient_tags = Table(
    "recipient_tags",
    metadata,
    _id(),
    Column("recipient_id", _Id, ForeignKey("recipients.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("from_rev", BigInteger, nullable=False),
    Column("to_rev", BigInteger),
)
Index(
    "uq_recipient_tags_current",
    recipient_tags.c.recipient_id,
    recipient_tags.c.key,
    recipient_tags.c.value,
    unique=True,
    **_current("to_rev"),
)
Index("ix_recipient_tags_key_value", recipient_tags.c.key, recipient_tags.c.value)
Index("ix_recipient_tags_recipient", recipient_tags.c.recipient_id)

# ---- alerts and their deliveries -----------------------------------------------------------------------------------

alerts = Table(
    "alerts",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("drill", Boolean, nullable=False),
    Column("sandbox", Boolean, nullable=False, comment="made with a test key: only ever reaches the sandbox"),
    Column("audience", Text, nullable=False, comment="JSON, as asked"),
    Column("revision", BigInteger, nullable=False, comment="the directory revision the audience is read at"),
    Column("dedup_key", Text),
    Column("dedup_open", Text, unique=True, comment="dedup_key while the alert is open, else NULL"),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False, comment="the API key's uid"),
    Column("expires_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger),
    Column("cancelled_by", Text),
    Column("completed_at", BigInteger, comment="when nothing was left to do, except late evidence"),
    Column("sampled_at", BigInteger, nullable=False, server_default="0"),  # unused: for processes older than revision 0005
)

alert_steps = Table(
    "alert_steps",
    metadata,
    Column("alert_id", _Id, ForeignKey("alerts.id"), nullable=False),
    Column("step", SmallInteger, nullable=False),
    Column("channels", Text, nullable=False, comment="JSON list"),
    Column("next_at", BigInteger, comment="when planning it is due; NULL: planned, or dropped"),
    Column("cursor", BigInteger, nullable=False, server_default="0", comment="last recipient id planned"),
    Column("people", BigInteger, nullable=False, server_default="0", comment="people in the audience so far"),
    Column(
        "unreachable",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="of these, reached by no channel asked for",
    ),
    Column("priority", SmallInteger, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("woken_at", BigInteger, nullable=False, server_default="0"),
    Column("planned_at", BigInteger),
    PrimaryKeyConstraint("alert_id", "step"),
)
Index(
    "ix_alert_steps_due",
    alert_steps.c.priority,
    alert_steps.c.next_at,
    postgresql_where=text("next_at IS NOT NULL"),
    sqlite_where=text("next_at IS NOT NULL"),
)

batches = Table(
    "batches",
    metadata,
    _id(),
    Column("alert_id", _Id, ForeignKey("alerts.id"), nullable=False),
    Column("step", SmallInteger, nullable=False),
    Column("channel", Text, nullable=False),
    Column("route", Text, nullable=False, comment="where its pauses hang"),
    Column("priority", SmallInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("next_at", BigInteger, comment="when something in it is due; NULL: nothing ever again"),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("losses", SmallInteger, nullable=False, server_default="0", comment="leases lost"),
    Column("runs_task", Integer, nullable=False, server_default="0", comment="runs begun by a Celery task"),
    Column("runs_poller", Integer, nullable=False, server_default="0"),
    Column("woken_at", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    *(Column(f"n_{state}", Integer, nullable=False, server_default="0") for state in STATES),
    *(CheckConstraint(f"n_{state} >= 0", name=f"n_{state}") for state in STATES),
    CheckConstraint(" + ".join(f"n_{state}" for state in STATES) + " = size", name="targeted_is_sum"),
)
Index("ix_batches_alert", batches.c.alert_id)
Index(
    "ix_batches_due",
    batches.c.priority,
    batches.c.next_at,
    postgresql_where=text("next_at IS NOT NULL"),
    sqlite_where=text("next_at IS NOT NULL"),
)
Index(
    "ix_batches_owner",
    batches.c.owner,
    postgresql_where=text("owner IS NOT NULL"),
    sqlite_where=text("owner IS NOT NULL"),
)

deliveries = Table(
    "deliveries",
    metadata,
    _id(),
    # No foreign keys. A row is written by the statement that writes its batch, alerts and batches are never deleted, and
    # looking for both once more for each of 1.5 million rows was half of planning; the audit looks for orphans. Contacts are
    # ended, not deleted, and an import's clean-up must not scan millions of deliveries.
    Column("alert_id", _Id, nullable=False),
    Column("batch_id", _Id, nullable=False),
    Column("contact_id", _Id, nullable=False),
    Column("recipient_id", _Id, nullable=False),
    Column("step", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", SmallInteger, nullable=False, server_default="0", comment="0: never marked"),
    Column("tries", SmallInteger, nullable=False, server_default="0", comment="attempts that count as spent"),
    Column("lookups", SmallInteger, nullable=False, server_default="0"),
    Column("absences", SmallInteger, nullable=False, server_default="0"),
    Column(
        "doubt",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="1: an earlier attempt may have left; 2: and a declared resend was ordered",
    ),
    Column(
        "void",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="attempts up to this one are known not to have arrived",
    ),
    Column("avoid", Text, comment="routes tried in vain, comma separated"),
    Column("route", Text),
    Column("provider_id", Text),
    Column("cost", BigInteger, comment="millionths of the account's currency"),
    Column("code", Text, comment="the last code a provider or we gave"),
    Column("reason", Text),
    Column("next_at", BigInteger, comment="when it is due; NULL: nothing to do"),
    Column("sent_at", BigInteger, comment="when the current attempt was marked"),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("alert_id", "contact_id", "step"),
    CheckConstraint("state IN (" + ", ".join(f"'{state}'" for state in STATES) + ")", name="state"),
    # Room for the versions that marking and acceptance make: they stay in their page, and no index is written.
    postgresql_with={"fillfactor": 40},
)
Index("ix_deliveries_batch", deliveries.c.batch_id)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", _Id, ForeignKey("deliveries.id"), nullable=False),
    Column("n", SmallInteger, nullable=False),
    Column("route", Text),
    Column("provider_id", Text),
    Column("cost", BigInteger),
    Column("code", Text),
    Column("outcome", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("delivery_id", "n"),
    comment="attempts that were followed by another; the current one stands in its delivery",
)

delivery_events = Table(
    "delivery_events",
    metadata,
    _id(),
    Column("delivery_id", _Id, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("code", Text),
    Column("reason", Text),
)
Index("ix_delivery_events_delivery", delivery_events.c.delivery_id)

alert_samples = Table(
    "alert_samples",
    metadata,
    Column("alert_id", _Id, ForeignKey("alerts.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("channel", Text, nullable=False),
    Column("targeted", Integer, nullable=False),
    Column("accepted", Integer, nullable=False, comment="accepted or delivered"),
    Column("delivered", Integer, nullable=False),
    PrimaryKeyConstraint("alert_id", "at", "channel"),
    comment="reach over time, thinned as the alert ages",
)

# ---- monitors, signals and what comes of them ------------------------------------------------------------------------

monitors = Table(
    "monitors",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("config", Text, nullable=False, comment="JSON, without its secrets"),
    Column("secrets", Text, comment="JSON, sealed with the broadcaster's own key"),
    Column("interval_ms", Integer, nullable=False),
    Column("timeout_ms", Integer, nullable=False),
    Column("failures", Integer, nullable=False, comment="in a row, until a vantage says that it is down"),
    Column("successes", Integer, nullable=False, comment="in a row, until it takes that back"),
    Column("quorum", Integer, nullable=False, comment="vantages that must agree"),
    Column("hold_down_ms", Integer, nullable=False),
    Column("sign_in_pause_ms", Integer, nullable=False, comment="between looks once our password is refused"),
    Column("control", Text, comment="host:port; when it cannot be reached either, the vantage is at fault"),
    Column("policy", Text, comment="JSON; NULL: watches, and raises nothing"),
    Column("ping_hash", Text, unique=True, comment="sha256 of the token in a heartbeat's address, hex"),
    Column("created_at", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False, comment="when it was made, changed or resumed"),
    Column("paused_at", BigInteger),
    Column("deleted_at", BigInteger),
    Column("state", Text, nullable=False, server_default="unknown"),
    Column("state_since", BigInteger, nullable=False),
    Column("code", Text),
    Column("reason", Text),
    Column("failed_at", BigInteger, comment="the last failed look of any vantage"),
    Column("seen_at", BigInteger, comment="the last heartbeat heard"),
    Column("version", Integer, nullable=False, server_default="1"),
)
Index("uq_monitors_name_current", monitors.c.name, unique=True, **_current("deleted_at"))

vantages = Table(
    "vantages",
    metadata,
    Column("monitor_id", _Id, ForeignKey("monitors.id"), primary_key=True, autoincrement=False),
    Column("vantage", Text, primary_key=True),
    Column("next_at", BigInteger, comment="when it looks next; NULL: paused"),
    Column(
        "ahead_ms",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="how far ahead that was: further, the clock was set",
    ),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("holds", Text, comment="ok, degraded, failed; NULL: nothing yet"),
    Column("n_failed", Integer, nullable=False, server_default="0", comment="looks in a row"),
    Column("n_degraded", Integer, nullable=False, server_default="0"),
    Column("n_ok", Integer, nullable=False, server_default="0"),
    Column("n_working", Integer, nullable=False, server_default="0"),
    Column("n_unknown", Integer, nullable=False, server_default="0"),
    Column("n_refused", Integer, nullable=False, server_default="0", comment="times in a row our password was refused"),
    Column("last_at", BigInteger),
    comment="where each monitor is looked at from, and when next",
)
Index("ix_vantages_due", vantages.c.vantage, vantages.c.next_at)

readings = Table(
    "readings",
    metadata,
    _id(),
    Column("monitor_id", _Id, nullable=False),
    Column("vantage", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("latency_ms", Integer),
    Column("detail", Text, comment="JSON"),
    UniqueConstraint("monitor_id", "vantage", "due_at"),
)
Index("ix_readings_at", readings.c.at)
Index("ix_readings_monitor", readings.c.monitor_id, readings.c.id)  # the last of one, without sorting all of it

monitor_changes = Table(
    "monitor_changes",
    metadata,
    _id(),
    Column("monitor_id", _Id, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("code", Text),
    Column("reason", Text),
    Column("evidence", Text, nullable=False, comment="JSON: vantage -> what it held, and its looks in a row"),
)
Index("ix_monitor_changes_monitor", monitor_changes.c.monitor_id)

maintenance = Table(
    "maintenance",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("monitor_id", _Id, comment="NULL: every monitor"),
    Column("from_at", BigInteger, nullable=False),
    Column("until_at", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    comment="times in which nothing is raised",
)
Index("ix_maintenance_until", maintenance.c.until_at)

incidents = Table(
    "incidents",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("group_key", Text, nullable=False),
    Column("group_open", Text, unique=True, comment="group_key while causes may join, else NULL"),
    Column("policy", Text, nullable=False, comment="JSON, as it was when the incident began"),
    Column("sandbox", Boolean, nullable=False),
    Column("state", Text, nullable=False, comment="waiting, asking, told, clearing, closed, dismissed"),
    Column("opened_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, comment="when something is due; NULL: it waits for a cause, or for somebody"),
    Column("owner", Text),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("told_at", BigInteger),
    Column("said_at", BigInteger, comment="the last word on causes"),
    Column("severity", Text, comment="the highest that was told"),
    Column("remind_at", BigInteger),
    Column("reminders", Integer, nullable=False, server_default="0"),
    Column("cleared_at", BigInteger, comment="when the last cause went"),
    Column("closed_at", BigInteger),
    Column("decided_by", Text, comment="who released or dismissed it"),
    Column("fault", Text, comment="why it could not be told, for the operator"),
    Column("lacks", Text, comment="without what it was told, likewise"),
)
Index("ix_incidents_due", incidents.c.next_at, **_current("closed_at"))

incident_causes = Table(
    "incident_causes",
    metadata,
    _id(),
    Column("incident_id", _Id, ForeignKey("incidents.id"), nullable=False),
    Column("key", Text, nullable=False, comment="monitor:<uid> or signal:<source>:<key>"),
    Column("key_open", Text, unique=True, comment="key while it lasts, else NULL"),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="in words"),
    Column("reason", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("told_as", Text, comment="its severity when people were told of it; NULL: they were not"),
    Column("opened_at", BigInteger, nullable=False),
    Column("cleared_at", BigInteger),
)
Index("ix_incident_causes_incident", incident_causes.c.incident_id)
Index("ix_incident_causes_key", incident_causes.c.key)

incident_alerts = Table(
    "incident_alerts",
    metadata,
    Column("incident_id", _Id, ForeignKey("incidents.id"), primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("what", Text, nullable=False, comment="alert, reminder, update, all_clear, earlier"),
    Column("alert_uid", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
Index("ix_incident_alerts_alert", incident_alerts.c.alert_uid)

signal_sources = Table(
    "signal_sources",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("options", Text, nullable=False, comment="JSON: the generic format's mapping"),
    Column("token_hash", Text, nullable=False, unique=True, comment="sha256 of the token in its address, hex"),
    Column("secrets", Text, comment="JSON, sealed: what its requests are signed with"),
    Column("per_minute", Integer, nullable=False),
    Column("test", Boolean, nullable=False, comment="what it raises reaches the sandbox only"),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Column("heard_at", BigInteger),
    Column("heard", BigInteger, nullable=False, server_default="0", comment="requests taken"),
    Column("refused", BigInteger, nullable=False, server_default="0"),
)
Index("uq_signal_sources_name_current", signal_sources.c.name, unique=True, **_current("deleted_at"))

signal_rules = Table(
    "signal_rules",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("match", Text, nullable=False, comment="JSON"),
    Column("policy", Text, comment="JSON; NULL: what matches is dropped"),
    Column("as_signalled", Boolean, nullable=False, comment="the alert's severity is the signal's"),
    Column("group_by", Text, nullable=False, comment="JSON list of labels: a value of its own, an incident of its own"),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
)

signals = Table(
    "signals",
    metadata,
    _id(),
    Column("source_id", _Id, ForeignKey("signal_sources.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("severity", Text),
    Column("labels", Text, nullable=False, comment="JSON"),
    Column("rule_id", _Id, comment="the rule that took it; NULL: none did"),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("said_at", BigInteger, comment="the time that the source itself gave last"),
    Column("times", BigInteger, nullable=False, server_default="1"),
    UniqueConstraint("source_id", "key"),
)
Index("ix_signals_last", signals.c.last_at)

signal_requests = Table(
    "signal_requests",
    metadata,
    Column("source_id", _Id, ForeignKey("signal_sources.id"), primary_key=True, autoincrement=False),
    Column("request_id", Text, primary_key=True, comment="webhook-id (Standard Webhooks)"),
    Column("at", BigInteger, nullable=False),
    comment="signed requests that were taken: none is taken twice",
)

# ---- running -------------------------------------------------------------------------------------------------------

routes = Table(
    "routes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_until", BigInteger, nullable=False, server_default="0"),
    Column("pause_reason", Text),
    Column(
        "busy_until",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="its rate limit is booked until then",
    ),
    Column("refusals", Integer, nullable=False, server_default="0", comment="times in a row it refused us"),
    Column("open_until", BigInteger, nullable=False, server_default="0"),
    Column("probe_until", BigInteger, nullable=False, server_default="0"),
    Column("trips", Integer, nullable=False, server_default="0", comment="in a row"),
    Column("tripped_by", Text, comment="submit, receipts"),
    Column("trip_reason", Text),
    Column("updated_at", BigInteger, nullable=False),
)

route_health = Table(
    "route_health",
    metadata,
    Column("route", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False, comment="start of the bucket"),
    Column("good", Integer, nullable=False, comment="requests that the provider took or refused for good"),
    Column("bad", Integer, nullable=False, comment="not sent, or in doubt"),
    Column("delivered", Integer, nullable=False),
    Column("undelivered", Integer, nullable=False, comment="finally, for a reason of the route's"),
    comment="the last minutes of each route, in buckets: what its circuit breaker judges",
)

chores = Table(
    "chores",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next_at", BigInteger, nullable=False),
    comment="what one process of all does at a time, for example the heartbeat to a dead-man service",
)

processes = Table(
    "processes",
    metadata,
    Column("owner", Text, primary_key=True, comment="host/boot/pid namespace/pid/start time"),
    Column("kind", Text, nullable=False, comment="worker, api"),
    Column("name", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("redis_lost_at", BigInteger),
    Column("consumed", BigInteger, nullable=False, server_default="0", comment="batches run"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True, comment="the public half; finds the row"),
    Column("secret_hash", LargeBinary, nullable=False, comment="sha256 of the 256-bit secret half"),
    Column("scopes", Text, nullable=False, comment="JSON list"),
    Column("test", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("api_key_id", _Id, ForeignKey("api_keys.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("alert_uid", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("api_key_id", "key"),
)

"""monitors, signals and incidents: what is watched, what others tell us, and the alerts that come of it"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
        comment="what one process of all does at a time, for example the heartbeat to a dead-man service",
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column("group_open", sa.Text(), nullable=True, comment="group_key while causes may join, else NULL"),
        sa.Column("policy", sa.Text(), nullable=False, comment="JSON, as it was when the incident began"),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="waiting, asking, told, clearing, closed, dismissed"),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "next_at",
            sa.BigInteger(),
            nullable=True,
            comment="when something is due; NULL: it waits for a cause, or for somebody",
        ),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("told_at", sa.BigInteger(), nullable=True),
        sa.Column("said_at", sa.BigInteger(), nullable=True, comment="the last word on causes"),
        sa.Column("severity", sa.Text(), nullable=True, comment="the highest that was told"),
        sa.Column("remind_at", sa.BigInteger(), nullable=True),
        sa.Column("reminders", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True, comment="when the last cause went"),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True, comment="who released or dismissed it"),
        sa.Column("fault", sa.Text(), nullable=True, comment="why it could not be told, for the operator"),
        sa.Column("lacks", sa.Text(), nullable=True, comment="without what it was told, likewise"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sa.UniqueConstraint("group_open", name=op.f("uq_incidents_group_open")),
        sa.UniqueConstraint("uid", name=op.f("uq_incidents_uid")),
    )
    op.create_index(
        "ix_incidents_due",
        "incidents",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
        sqlite_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "maintenance",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column(
            "monitor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True, comment="NULL: every monitor"
        ),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance")),
        sa.UniqueConstraint("uid", name=op.f("uq_maintenance_uid")),
        comment="times in which nothing is raised",
    )
    op.create_index("ix_maintenance_until", "maintenance", ["until_at"], unique=False)
    op.create_table(
        "monitor_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("old", sa.Text(), nullable=False),
        sa.Column("new", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False, comment="JSON: vantage -> what it held, and its looks in a row"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_changes")),
    )
    op.create_index("ix_monitor_changes_monitor", "monitor_changes", ["monitor_id"], unique=False)
    op.create_table(
        "monitors",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False, comment="JSON, without its secrets"),
        sa.Column("secrets", sa.Text(), nullable=True, comment="JSON, sealed with the broadcaster's own key"),
        sa.Column("interval_ms", sa.Integer(), nullable=False),
        sa.Column("timeout_ms", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row, until a vantage says that it is down"),
        sa.Column("successes", sa.Integer(), nullable=False, comment="in a row, until it takes that back"),
        sa.Column("quorum", sa.Integer(), nullable=False, comment="vantages that must agree"),
        sa.Column("hold_down_ms", sa.Integer(), nullable=False),
        sa.Column("sign_in_pause_ms", sa.Integer(), nullable=False, comment="between looks once our password is refused"),
        sa.Column(
            "control",
            sa.Text(),
            nullable=True,
            comment="host:port; when it cannot be reached either, the vantage is at fault",
        ),
        sa.Column("policy", sa.Text(), nullable=True, comment="JSON; NULL: watches, and raises nothing"),
        sa.Column("ping_hash", sa.Text(), nullable=True, comment="sha256 of the token in a heartbeat's address, hex"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="when it was made, changed or resumed"),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("state_since", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.BigInteger(), nullable=True, comment="the last failed look of any vantage"),
        sa.Column("seen_at", sa.BigInteger(), nullable=True, comment="the last heartbeat heard"),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitors")),
        sa.UniqueConstraint("ping_hash", name=op.f("uq_monitors_ping_hash")),
        sa.UniqueConstraint("uid", name=op.f("uq_monitors_uid")),
    )
    op.create_index(
        "uq_monitors_name_current",
        "monitors",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "readings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("vantage", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True, comment="JSON"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_readings")),
        sa.UniqueConstraint("monitor_id", "vantage", "due_at", name=op.f("uq_readings_monitor_id_vantage_due_at")),
    )
    op.create_index("ix_readings_at", "readings", ["at"], unique=False)
    op.create_index("ix_readings_monitor", "readings", ["monitor_id", "id"], unique=False)
    op.create_table(
        "signal_rules",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("match", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("policy", sa.Text(), nullable=True, comment="JSON; NULL: what matches is dropped"),
        sa.Column("as_signalled", sa.Boolean(), nullable=False, comment="the alert's severity is the signal's"),
        sa.Column(
            "group_by", sa.Text(), nullable=False, comment="JSON list of labels: a value of its own, an incident of its own"
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signal_rules")),
        sa.UniqueConstraint("uid", name=op.f("uq_signal_rules_uid")),
    )
    op.create_table(
        "signal_sources",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False, comment="JSON: the generic format's mapping"),
        sa.Column("token_hash", sa.Text(), nullable=False, comment="sha256 of the token in its address, hex"),
        sa.Column("secrets", sa.Text(), nullable=True, comment="JSON, sealed: what its requests are signed with"),
        sa.Column("per_minute", sa.Integer(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False, comment="what it raises reaches the sandbox only"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("heard_at", sa.BigInteger(), nullable=True),
        sa.Column("heard", sa.BigInteger(), server_default="0", nullable=False, comment="requests taken"),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signal_sources")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_signal_sources_token_hash")),
        sa.UniqueConstraint("uid", name=op.f("uq_signal_sources_uid")),
    )
    op.create_index(
        "uq_signal_sources_name_current",
        "signal_sources",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "incident_alerts",
        sa.Column("incident_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("what", sa.Text(), nullable=False, comment="alert, reminder, update, all_clear, earlier"),
        sa.Column("alert_uid", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name=op.f("fk_incident_alerts_incident_id")),
        sa.PrimaryKeyConstraint("incident_id", "n", name=op.f("pk_incident_alerts")),
    )
    op.create_index("ix_incident_alerts_alert", "incident_alerts", ["alert_uid"], unique=False)
    op.create_table(
        "incident_causes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("incident_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="monitor:<uid> or signal:<source>:<key>"),
        sa.Column("key_open", sa.Text(), nullable=True, comment="key while it lasts, else NULL"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="in words"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column(
            "told_as", sa.Text(), nullable=True, comment="its severity when people were told of it; NULL: they were not"
        ),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name=op.f("fk_incident_causes_incident_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident_causes")),
        sa.UniqueConstraint("key_open", name=op.f("uq_incident_causes_key_open")),
    )
    op.create_index("ix_incident_causes_incident", "incident_causes", ["incident_id"], unique=False)
    op.create_index("ix_incident_causes_key", "incident_causes", ["key"], unique=False)
    op.create_table(
        "signal_requests",
        sa.Column("source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False, comment="webhook-id (Standard Webhooks)"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["signal_sources.id"], name=op.f("fk_signal_requests_source_id")),
        sa.PrimaryKeyConstraint("source_id", "request_id", name=op.f("pk_signal_requests")),
        comment="signed requests that were taken: none is taken twice",
    )
    op.create_table(
        "signals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False, comment="JSON"),
        sa.Column(
            "rule_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="the rule that took it; NULL: none did",
        ),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("said_at", sa.BigInteger(), nullable=True, comment="the time that the source itself gave last"),
        sa.Column("times", sa.BigInteger(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["signal_sources.id"], name=op.f("fk_signals_source_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signals")),
        sa.UniqueConstraint("source_id", "key", name=op.f("uq_signals_source_id_key")),
    )
    op.create_index("ix_signals_last", "signals", ["last_at"], unique=False)
    op.create_table(
        "vantages",
        sa.Column("monitor_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("vantage", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True, comment="when it looks next; NULL: paused"),
        sa.Column(
            "ahead_ms",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="how far ahead that was: further, the clock was set",
        ),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("holds", sa.Text(), nullable=True, comment="ok, degraded, failed; NULL: nothing yet"),
        sa.Column("n_failed", sa.Integer(), server_default="0", nullable=False, comment="looks in a row"),
        sa.Column("n_degraded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_ok", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_working", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_unknown", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "n_refused", sa.Integer(), server_default="0", nullable=False, comment="times in a row our password was refused"
        ),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["monitor_id"], ["monitors.id"], name=op.f("fk_vantages_monitor_id")),
        sa.PrimaryKeyConstraint("monitor_id", "vantage", name=op.f("pk_vantages")),
        comment="where each monitor is looked at from, and when next",
    )
    op.create_index("ix_vantages_due", "vantages", ["vantage", "next_at"], unique=False)

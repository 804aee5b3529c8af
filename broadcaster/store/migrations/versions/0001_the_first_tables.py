"""the first tables"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("drill", sa.Boolean(), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False, comment="made with a test key: only ever reaches the sandbox"),
        sa.Column("audience", sa.Text(), nullable=False, comment="JSON, as asked"),
        sa.Column("revision", sa.BigInteger(), nullable=False, comment="the directory revision the audience is read at"),
        sa.Column("dedup_key", sa.Text(), nullable=True),
        sa.Column("dedup_open", sa.Text(), nullable=True, comment="dedup_key while the alert is open, else NULL"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False, comment="the API key's uid"),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_at", sa.BigInteger(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column(
            "completed_at", sa.BigInteger(), nullable=True, comment="when nothing was left to do, except late evidence"
        ),
        sa.Column("sampled_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("dedup_open", name=op.f("uq_alerts_dedup_open")),
        sa.UniqueConstraint("uid", name=op.f("uq_alerts_uid")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False, comment="the public half; finds the row"),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False, comment="sha256 of the 256-bit secret half"),
        sa.Column("scopes", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
        sa.UniqueConstraint("uid", name=op.f("uq_api_keys_uid")),
    )
    op.create_table(
        "delivery_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("old", sa.Text(), nullable=False),
        sa.Column("new", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_events")),
    )
    with op.batch_alter_table("delivery_events", schema=None) as batch_op:
        batch_op.create_index("ix_delivery_events_delivery", ["delivery_id"], unique=False)

    op.create_table(
        "directory",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("import_owner", sa.Text(), nullable=True),
        sa.Column("import_lease_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_directory")),
        comment="one row: the directory's revision, and who is importing",
    )
    op.create_table(
        "groups",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("from_rev", sa.BigInteger(), nullable=False),
        sa.Column("to_rev", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("uid", name=op.f("uq_groups_uid")),
    )
    with op.batch_alter_table("groups", schema=None) as batch_op:
        batch_op.create_index(
            "uq_groups_name_current",
            ["name"],
            unique=True,
            postgresql_where=sa.text("to_rev IS NULL"),
            sqlite_where=sa.text("to_rev IS NULL"),
        )

    op.create_table(
        "processes",
        sa.Column("owner", sa.Text(), nullable=False, comment="host/boot/pid namespace/pid/start time"),
        sa.Column("kind", sa.Text(), nullable=False, comment="worker, api"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("redis_lost_at", sa.BigInteger(), nullable=True),
        sa.Column("consumed", sa.BigInteger(), server_default="0", nullable=False, comment="batches run"),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_processes")),
    )
    op.create_table(
        "recipients",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column(
            "external_id",
            sa.Text(),
            nullable=True,
            comment="the customer's own number for this person, for example a staff number",
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("from_rev", sa.BigInteger(), nullable=False),
        sa.Column("to_rev", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recipients")),
        sa.UniqueConstraint("uid", name=op.f("uq_recipients_uid")),
    )
    with op.batch_alter_table("recipients", schema=None) as batch_op:
        batch_op.create_index("ix_recipients_name", ["name"], unique=False)
        batch_op.create_index(
            "uq_recipients_external_id_current",
            ["external_id"],
            unique=True,
            postgresql_where=sa.text("to_rev IS NULL"),
            sqlite_where=sa.text("to_rev IS NULL"),
        )

    op.create_table(
        "routes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column(
            "busy_until", sa.BigInteger(), server_default="0", nullable=False, comment="its rate limit is booked until then"
        ),
        sa.Column("refusals", sa.Integer(), server_default="0", nullable=False, comment="times in a row it refused us"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_routes")),
    )
    op.create_table(
        "alert_samples",
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("targeted", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False, comment="accepted or delivered"),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_samples_alert_id")),
        sa.PrimaryKeyConstraint("alert_id", "at", "channel", name=op.f("pk_alert_samples")),
        comment="reach over time, thinned as the alert ages",
    )
    op.create_table(
        "alert_steps",
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("step", sa.SmallInteger(), nullable=False),
        sa.Column("channels", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("next_at", sa.BigInteger(), nullable=True, comment="when planning it is due; NULL: planned, or dropped"),
        sa.Column("cursor", sa.BigInteger(), server_default="0", nullable=False, comment="last recipient id planned"),
        sa.Column("people", sa.BigInteger(), server_default="0", nullable=False, comment="people in the audience so far"),
        sa.Column(
            "unreachable",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="of these, reached by no channel asked for",
        ),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("woken_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("planned_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_steps_alert_id")),
        sa.PrimaryKeyConstraint("alert_id", "step", name=op.f("pk_alert_steps")),
    )
    with op.batch_alter_table("alert_steps", schema=None) as batch_op:
        batch_op.create_index(
            "ix_alert_steps_due",
            ["next_at"],
            unique=False,
            postgresql_where=sa.text("next_at IS NOT NULL"),
            sqlite_where=sa.text("next_at IS NOT NULL"),
        )

    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("step", sa.SmallInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False, comment="where its pauses hang"),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column(
            "next_at", sa.BigInteger(), nullable=True, comment="when something in it is due; NULL: nothing ever again"
        ),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.SmallInteger(), server_default="0", nullable=False, comment="leases lost"),
        sa.Column("runs_task", sa.Integer(), server_default="0", nullable=False, comment="runs begun by a Celery task"),
        sa.Column("runs_poller", sa.Integer(), server_default="0", nullable=False),
        sa.Column("woken_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("n_queued", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_sending", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_retrying", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_uncertain", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_accepted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_delivered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_skipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_cancelled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_expired", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_unconfirmed", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("n_accepted >= 0", name=op.f("ck_batches_n_accepted")),
        sa.CheckConstraint("n_cancelled >= 0", name=op.f("ck_batches_n_cancelled")),
        sa.CheckConstraint("n_delivered >= 0", name=op.f("ck_batches_n_delivered")),
        sa.CheckConstraint("n_expired >= 0", name=op.f("ck_batches_n_expired")),
        sa.CheckConstraint("n_failed >= 0", name=op.f("ck_batches_n_failed")),
        sa.CheckConstraint(
            "n_queued + n_sending + n_retrying + n_uncertain + n_accepted + n_delivered + n_failed + n_skipped + n_cancelled + n_expired + n_unconfirmed = size",
            name=op.f("ck_batches_targeted_is_sum"),
        ),
        sa.CheckConstraint("n_queued >= 0", name=op.f("ck_batches_n_queued")),
        sa.CheckConstraint("n_retrying >= 0", name=op.f("ck_batches_n_retrying")),
        sa.CheckConstraint("n_sending >= 0", name=op.f("ck_batches_n_sending")),
        sa.CheckConstraint("n_skipped >= 0", name=op.f("ck_batches_n_skipped")),
        sa.CheckConstraint("n_uncertain >= 0", name=op.f("ck_batches_n_uncertain")),
        sa.CheckConstraint("n_unconfirmed >= 0", name=op.f("ck_batches_n_unconfirmed")),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_batches_alert_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index("ix_batches_alert", ["alert_id"], unique=False)
        batch_op.create_index(
            "ix_batches_due",
            ["priority", "next_at"],
            unique=False,
            postgresql_where=sa.text("next_at IS NOT NULL"),
            sqlite_where=sa.text("next_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_batches_owner",
            ["owner"],
            unique=False,
            postgresql_where=sa.text("owner IS NOT NULL"),
            sqlite_where=sa.text("owner IS NOT NULL"),
        )

    op.create_table(
        "contacts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False, comment="canonical; what the channel sends to"),
        sa.Column("identity", sa.Text(), nullable=False, comment="what makes two addresses the same on this channel"),
        sa.Column("masked", sa.Text(), nullable=False, comment="all that logs and pages show"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True, comment="opted_out, gone, invalid, unsubscribed"),
        sa.Column("from_rev", sa.BigInteger(), nullable=False),
        sa.Column("to_rev", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["recipient_id"], ["recipients.id"], name=op.f("fk_contacts_recipient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contacts")),
        sa.UniqueConstraint("uid", name=op.f("uq_contacts_uid")),
    )
    with op.batch_alter_table("contacts", schema=None) as batch_op:
        batch_op.create_index("ix_contacts_identity", ["identity"], unique=False)
        batch_op.create_index("ix_contacts_recipient", ["recipient_id"], unique=False)
        batch_op.create_index(
            "uq_contacts_current",
            ["recipient_id", "channel", "identity"],
            unique=True,
            postgresql_where=sa.text("to_rev IS NULL"),
            sqlite_where=sa.text("to_rev IS NULL"),
        )

    op.create_table(
        "group_members",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("from_rev", sa.BigInteger(), nullable=False),
        sa.Column("to_rev", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_group_members_group_id")),
        sa.ForeignKeyConstraint(["recipient_id"], ["recipients.id"], name=op.f("fk_group_members_recipient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_members")),
    )
    with op.batch_alter_table("group_members", schema=None) as batch_op:
        batch_op.create_index("ix_group_members_recipient", ["recipient_id"], unique=False)
        batch_op.create_index(
            "uq_group_members_current",
            ["group_id", "recipient_id"],
            unique=True,
            postgresql_where=sa.text("to_rev IS NULL"),
            sqlite_where=sa.text("to_rev IS NULL"),
        )

    op.create_table(
        "idempotency_keys",
        sa.Column("api_key_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("alert_uid", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_idempotency_keys_api_key_id")),
        sa.PrimaryKeyConstraint("api_key_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "recipient_tags",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("from_rev", sa.BigInteger(), nullable=False),
        sa.Column("to_rev", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["recipient_id"], ["recipients.id"], name=op.f("fk_recipient_tags_recipient_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recipient_tags")),
    )
    with op.batch_alter_table("recipient_tags", schema=None) as batch_op:
        batch_op.create_index("ix_recipient_tags_key_value", ["key", "value"], unique=False)
        batch_op.create_index("ix_recipient_tags_recipient", ["recipient_id"], unique=False)
        batch_op.create_index(
            "uq_recipient_tags_current",
            ["recipient_id", "key", "value"],
            unique=True,
            postgresql_where=sa.text("to_rev IS NULL"),
            sqlite_where=sa.text("to_rev IS NULL"),
        )

    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("alert_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recipient_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("step", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False, comment="0: never marked"),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False, comment="attempts that count as spent"),
        sa.Column("lookups", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("absences", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True, comment="millionths of the account's currency"),
        sa.Column("code", sa.Text(), nullable=True, comment="the last code a provider or we gave"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True, comment="when it is due; NULL: nothing to do"),
        sa.Column("sent_at", sa.BigInteger(), nullable=True, comment="when the current attempt was marked"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'sending', 'retrying', 'uncertain', 'accepted', 'delivered', 'failed', 'skipped', 'cancelled', 'expired', 'unconfirmed')",
            name=op.f("ck_deliveries_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("alert_id", "contact_id", "step", name=op.f("uq_deliveries_alert_id_contact_id_step")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_batch", ["batch_id"], unique=False)

    op.create_table(
        "push_subscriptions",
        sa.Column("contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("endpoint_hash", sa.Text(), nullable=False, comment="sha256 of the endpoint, hex"),
        sa.Column("vapid_public_key", sa.Text(), nullable=False, comment="the applicationServerKey it was made with"),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_shown_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_push_subscriptions_contact_id")),
        sa.PrimaryKeyConstraint("contact_id", name=op.f("pk_push_subscriptions")),
        sa.UniqueConstraint("endpoint_hash", name=op.f("uq_push_subscriptions_endpoint_hash")),
    )
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("n", sa.SmallInteger(), nullable=False),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_attempts_delivery_id")),
        sa.PrimaryKeyConstraint("delivery_id", "n", name=op.f("pk_attempts")),
        comment="attempts that were followed by another; the current one stands in its delivery",
    )
    op.execute("INSERT INTO directory (id, revision, import_lease_until) VALUES (1, 0, 0)")


def downgrade() -> None:

    op.drop_table("attempts")
    op.drop_table("push_subscriptions")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_batch")

    op.drop_table("deliveries")
    with op.batch_alter_table("recipient_tags", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_recipient_tags_current", postgresql_where=sa.text("to_rev IS NULL"), sqlite_where=sa.text("to_rev IS NULL")
        )
        batch_op.drop_index("ix_recipient_tags_recipient")
        batch_op.drop_index("ix_recipient_tags_key_value")

    op.drop_table("recipient_tags")
    op.drop_table("idempotency_keys")
    with op.batch_alter_table("group_members", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_group_members_current", postgresql_where=sa.text("to_rev IS NULL"), sqlite_where=sa.text("to_rev IS NULL")
        )
        batch_op.drop_index("ix_group_members_recipient")

    op.drop_table("group_members")
    with op.batch_alter_table("contacts", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_contacts_current", postgresql_where=sa.text("to_rev IS NULL"), sqlite_where=sa.text("to_rev IS NULL")
        )
        batch_op.drop_index("ix_contacts_recipient")
        batch_op.drop_index("ix_contacts_identity")

    op.drop_table("contacts")
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_batches_owner", postgresql_where=sa.text("owner IS NOT NULL"), sqlite_where=sa.text("owner IS NOT NULL")
        )
        batch_op.drop_index(
            "ix_batches_due", postgresql_where=sa.text("next_at IS NOT NULL"), sqlite_where=sa.text("next_at IS NOT NULL")
        )
        batch_op.drop_index("ix_batches_alert")

    op.drop_table("batches")
    with op.batch_alter_table("alert_steps", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_alert_steps_due",
            postgresql_where=sa.text("next_at IS NOT NULL"),
            sqlite_where=sa.text("next_at IS NOT NULL"),
        )

    op.drop_table("alert_steps")
    op.drop_table("alert_samples")
    op.drop_table("routes")
    with op.batch_alter_table("recipients", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_recipients_external_id_current",
            postgresql_where=sa.text("to_rev IS NULL"),
            sqlite_where=sa.text("to_rev IS NULL"),
        )
        batch_op.drop_index("ix_recipients_name")

    op.drop_table("recipients")
    op.drop_table("processes")
    with op.batch_alter_table("groups", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_groups_name_current", postgresql_where=sa.text("to_rev IS NULL"), sqlite_where=sa.text("to_rev IS NULL")
        )

    op.drop_table("groups")
    op.drop_table("directory")
    with op.batch_alter_table("delivery_events", schema=None) as batch_op:
        batch_op.drop_index("ix_delivery_events_delivery")

    op.drop_table("delivery_events")
    op.drop_table("api_keys")
    op.drop_table("alerts")

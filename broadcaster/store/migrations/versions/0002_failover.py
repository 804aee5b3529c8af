"""failover: what a delivery may not be sent over again, and how its routes are doing"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    doubt = "1: an earlier attempt may have left; 2: and a declared resend was ordered"
    op.add_column("deliveries", sa.Column("doubt", sa.SmallInteger(), server_default="0", nullable=False, comment=doubt))
    void = "attempts up to this one are known not to have arrived"
    op.add_column("deliveries", sa.Column("void", sa.SmallInteger(), server_default="0", nullable=False, comment=void))
    op.add_column(
        "deliveries", sa.Column("avoid", sa.Text(), nullable=True, comment="routes tried in vain, comma separated")
    )

    op.add_column("routes", sa.Column("open_until", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("routes", sa.Column("probe_until", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("routes", sa.Column("trips", sa.Integer(), server_default="0", nullable=False, comment="in a row"))
    op.add_column("routes", sa.Column("tripped_by", sa.Text(), nullable=True, comment="submit, receipts"))
    op.add_column("routes", sa.Column("trip_reason", sa.Text(), nullable=True))

    op.create_table(
        "route_health",
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False, comment="start of the bucket"),
        sa.Column("good", sa.Integer(), nullable=False, comment="requests that the provider took or refused for good"),
        sa.Column("bad", sa.Integer(), nullable=False, comment="not sent, or in doubt"),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.Column("undelivered", sa.Integer(), nullable=False, comment="finally, for a reason of the route's"),
        sa.PrimaryKeyConstraint("route", "at", name=op.f("pk_route_health")),
        comment="the last minutes of each route, in buckets: what its circuit breaker judges",
    )

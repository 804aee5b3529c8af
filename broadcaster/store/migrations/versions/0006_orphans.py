"""orphans: deliveries have no foreign keys any more, which were half of planning; the audit looks instead

The first migration used to make them. A SQLite database from that time keeps them: there they cost next to nothing.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for column in ("alert_id", "batch_id"):
            op.execute(f"ALTER TABLE deliveries DROP CONSTRAINT IF EXISTS fk_deliveries_{column}")

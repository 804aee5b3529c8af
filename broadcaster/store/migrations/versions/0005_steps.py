"""steps: the most urgent of thousands that wait to be planned is found without sorting them"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_alert_steps_due", table_name="alert_steps")
    op.create_index(
        "ix_alert_steps_due",
        "alert_steps",
        ["priority", "next_at"],
        postgresql_where=sa.text("next_at IS NOT NULL"),
        sqlite_where=sa.text("next_at IS NOT NULL"),
    )

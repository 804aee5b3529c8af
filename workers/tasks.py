"""Thin tasks: a wake-up says "look", the database's order says what is next."""

from broadcaster.queue import DELIVER_TASK, PLAN_TASK
from workers import runtime
from workers.app import app


@app.task(name=PLAN_TASK)  # type: ignore[untyped-decorator]
def plan() -> None:
    """Plans what is due, then delivers as far as this wake-up's time goes."""
    runtime.current().drain(by_task=True)


@app.task(name=DELIVER_TASK)  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Runs due batches, the most urgent first, for a few seconds at most."""
    runtime.current().drain(by_task=True)

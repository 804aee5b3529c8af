"""A step or a batch that cannot even be read stands before nobody else: it waits for a lease, again and again."""

import pytest

from tests.engine.rig import Engine
from tests.engine.stepping import Worker


def planned(engine: Engine, uid: str) -> int:
    sql = f"SELECT count(*) FROM deliveries d JOIN alerts a ON a.id = d.alert_id WHERE a.uid = '{uid}'"
    return int(engine.rows(sql)[0][0])


def test_a_step_for_a_channel_that_is_gone(engine: Engine) -> None:
    engine.alert()
    engine.write("""UPDATE alert_steps SET channels = '["gone"]'""")
    good = engine.alert()
    with pytest.raises(KeyError):
        engine.planner.run_one(lowest=3)
    assert engine.planner.run_one(lowest=3)
    assert planned(engine, good) == 1


def test_a_batch_of_a_channel_that_is_gone(engine: Engine) -> None:
    engine.alert()
    engine.planner.run_one(lowest=3)
    engine.write("UPDATE batches SET channel = 'gone'")
    engine.alert()
    engine.planner.run_one(lowest=3)
    worker = Worker(engine, "first")
    with pytest.raises(KeyError):
        worker.go()
    other = Worker(engine, "second")
    other.go()
    while other.busy:
        other.go()
    states = [row[0] for row in engine.rows("SELECT state FROM deliveries ORDER BY id")]
    assert states == ["queued", "accepted"]

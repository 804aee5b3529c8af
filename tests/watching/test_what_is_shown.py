"""What people see of monitors and incidents: the service's views."""

from broadcaster.services.monitors import Monitors
from broadcaster.services.sealing import Sealer
from tests.watching.rig import Site


def test_monitors_can_be_read_when_their_secrets_cannot(site: Site) -> None:
    uid = site.watch(config={"what": "mail", "password": "open sesame"})
    assert site.monitors.get(uid).secrets == ("/password",)
    with_another_key = Monitors(site.engine.database, {}, site.engine.alerts, site.incidents, Sealer(b"another key"))
    assert [(view.watch.name, view.secrets) for view in with_another_key.page(None, 10)[0]] == [("Mail", ("",))]

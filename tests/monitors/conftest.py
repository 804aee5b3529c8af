"""What tests of monitors share: an authority for certificates, and a real mail system for those who ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import skip_loudly
from tests.monitors import mail_system
from tests.monitors.certificates import Authority
from tests.monitors.mail_system import Fault, MailSystem


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailSystem]:
    why = mail_system.missing()
    if why is not None:
        skip_loudly("a real mail system (Postfix and Dovecot)", why)
    made = MailSystem()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def mail(mail_server: MailSystem) -> MailSystem:
    """Well, whatever the last test did to it."""
    mail_server.fault(Fault.NONE)
    return mail_server


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    """Workers run uvloop; its faults have other names."""
    return str(request.param)

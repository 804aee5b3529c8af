"""The round trip against a real Postfix and Dovecot: each fault has its own code."""

import smtplib
import time
from typing import Any

import pytest

from broadcaster.domain.monitor import Verdict
from broadcaster.monitors import probes
from broadcaster.monitors.mail_round_trip import Config, MailRoundTrip
from tests.monitors.looks import circumstances, look, run
from tests.monitors.mail_system import PASSWORD, Fault, MailSystem
from tests.ports import free_port


def config(mail: MailSystem, **changes: Any) -> dict[str, Any]:
    return {
        "smtp_host": "localhost",
        "smtp_port": mail.submission,
        "sender": "probe@probe.test",
        "recipient": "probe@probe.test",
        "imap_host": "localhost",
        "imap_port": mail.imaps,
        "username": "probe",
        "password": PASSWORD,
        "deliver_within": 8.0,
        "degraded_after": 8.0,
        "ca_certificates": mail.certificates,
        **changes,
    }


def reading(mail: MailSystem, timeout: float = 15.0, loop: str = "asyncio", **changes: Any) -> Any:
    async def main() -> Any:
        return await look(MailRoundTrip(), config(mail, **changes), timeout)

    return run(main, loop)


def drop(mail: MailSystem, probe: probes.Probe | None, subject: str = "Lunch?") -> None:
    """Puts a message into the mailbox: an earlier probe, or somebody else's."""
    if probe is not None:
        raw = probes.message(probe, "probe@probe.test", "probe@probe.test")
    else:
        raw = f"From: a@probe.test\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()
    before = len(mail.mailbox("probe"))
    with smtplib.SMTP("127.0.0.1", mail.smtp, local_hostname="localhost") as smtp:
        smtp.sendmail("probe@probe.test", ["probe@probe.test"], raw)
    deadline = time.monotonic() + 10
    while len(mail.mailbox("probe")) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_message_arrives_and_is_deleted(mail: MailSystem, loop: str) -> None:
    found = reading(mail, loop=loop)
    assert (found.verdict, found.code) == (Verdict.OK, "ok"), found
    assert 0 < found.latency < 8
    assert found.detail["removed"] == 1
    assert 85 < found.detail["smtp_certificate_days"] < 91
    assert not [raw for raw in mail.mailbox("probe") if probes.read(raw)]


@pytest.mark.parametrize(
    ("smtp", "imap"),
    [("tls", "starttls"), ("none", "none"), ("starttls", "tls")],
)
def test_every_way_of_encryption(mail: MailSystem, smtp: str, imap: str, loop: str) -> None:
    ports = {"tls": mail.smtps, "starttls": mail.submission, "none": mail.smtp}
    found = reading(
        mail, loop=loop, smtp_security=smtp, smtp_port=ports[smtp], imap_security=imap, allow_cleartext=True,
        imap_port=mail.imaps if imap == "tls" else mail.imap, smtp_auth="none" if smtp == "none" else "password",
    )  # fmt: skip
    assert found.code == "ok", found


def test_lost_mail_is_seen_by_nothing_else(mail: MailSystem) -> None:
    mail.fault(Fault.LOST)
    found = reading(mail, timeout=5.0, deliver_within=1.0, degraded_after=1.0)
    assert (found.verdict, found.code) == (Verdict.FAILED, "accepted_not_delivered"), found
    assert "did not arrive within 1.0 s" in found.reason
    assert "queued as" in found.detail["accepted_as"]


def test_stuck_mail_that_comes_later_was_delayed_and_not_lost(mail: MailSystem) -> None:
    mail.fault(Fault.STUCK)
    kind = MailRoundTrip()
    short = Config(**config(mail, deliver_within=1.0, degraded_after=1.0))

    async def main() -> Any:
        return await look(kind, short, 5.0)

    first = run(main)
    assert first.code == "accepted_not_delivered", first
    mail.fault(Fault.NONE)
    deadline = time.monotonic() + 20
    while not [raw for raw in mail.mailbox("probe") if probes.read(raw)]:
        assert time.monotonic() < deadline, mail.log()
        time.sleep(0.02)

    async def later() -> Any:
        now = time.time() + 60  # past the time that anybody waits for the first one
        return await look(kind, Config(**config(mail)), 15.0, now=now)

    second = run(later)
    assert second.code == "ok", second
    assert second.detail["late_probes"] == 1
    assert second.detail["late_by_seconds"] >= 0
    assert not [raw for raw in mail.mailbox("probe") if probes.read(raw)]


def test_mail_that_comes_back_is_no_mystery(mail: MailSystem) -> None:
    found = reading(mail, timeout=8.0, deliver_within=2.0, degraded_after=2.0, recipient="returned@probe.test")
    assert (found.verdict, found.code) == (Verdict.FAILED, "returned"), found


def test_a_changed_password_is_refused_at_the_submission(mail: MailSystem) -> None:
    mail.fault(Fault.AUTH)
    found = reading(mail)
    assert (found.verdict, found.code, found.refused) == (Verdict.FAILED, "auth_refused", True), found
    assert found.detail["side"] == "submission"
    assert found.detail["smtp_code"] == 535


def test_a_password_that_only_the_mailbox_refuses(mail: MailSystem) -> None:
    found = reading(mail, smtp_username="other", smtp_password=PASSWORD, password="wrong one")
    assert (found.code, found.refused, found.detail["side"]) == ("auth_refused", True, "mailbox"), found
    assert "mailbox (IMAP)" in found.reason


def test_nothing_runs(mail: MailSystem) -> None:
    mail.fault(Fault.DOWN)
    found = reading(mail)
    assert (found.verdict, found.code) == (Verdict.FAILED, "submission_unreachable"), found
    assert found.detail["cause"] == "connection_refused"


def test_only_the_mailbox_is_away(mail: MailSystem) -> None:
    found = reading(mail, imap_port=free_port())  # where nobody listens
    assert (found.code, found.detail["cause"]) == ("mailbox_unreachable", "connection_refused"), found


def test_an_expired_certificate(mail: MailSystem) -> None:
    mail.fault(Fault.EXPIRED)
    found = reading(mail)
    assert (found.verdict, found.code, found.detail["side"]) == (Verdict.FAILED, "certificate_expired", "submission"), found


def test_a_certificate_of_nobody_we_trust(mail: MailSystem) -> None:
    assert reading(mail, ca_certificates=None).code == "certificate_untrusted"


def test_a_certificate_that_ends_soon(mail: MailSystem) -> None:
    found = reading(mail, certificate_days=100)
    assert (found.verdict, found.code) == (Verdict.DEGRADED, "certificate_ends_soon"), found


def test_a_slow_trip(mail: MailSystem) -> None:
    found = reading(mail, degraded_after=0.001)
    assert (found.verdict, found.code) == (Verdict.DEGRADED, "slow"), found


def test_a_refused_recipient(mail: MailSystem) -> None:
    found = reading(mail, recipient="refused@probe.test")
    assert (found.verdict, found.code) == (Verdict.FAILED, "submission_refused"), found
    assert found.detail["smtp_code"] == 550
    assert "not today" in found.detail["said"]


def test_a_folder_that_is_not_there(mail: MailSystem) -> None:
    found = reading(mail, folder="Nowhere")
    assert (found.code, found.detail["cause"]) == ("mailbox_unreachable", "select_refused"), found


def test_encryption_that_the_other_side_does_not_speak(mail: MailSystem) -> None:
    found = reading(mail, smtp_security="tls", smtp_port=mail.smtp)
    assert (found.code, found.detail["side"]) == ("tls_failed", "submission"), found


def test_only_our_own_old_messages_go(mail: MailSystem) -> None:
    """Somebody else's message, one that quotes our subject, and a probe that another vantage waits for, stay."""
    for raw in mail.folder.glob("mail/probe/*/*"):
        raw.unlink() if raw.is_file() and raw.parent.name in ("new", "cur") else None
    now = int(circumstances().now)
    route = Config(**config(mail)).route
    drop(mail, None)
    drop(mail, None, f"{probes.MARK} {'0' * 32}")
    drop(mail, probes.Probe(route, now - 500, now - 400, "a" * 32))  # ours, late
    drop(mail, probes.Probe(route, now, now + 60, "b" * 32))  # another vantage's, awaited
    drop(mail, probes.Probe("f" * 16, now - 500, now - 400, "c" * 32))  # another route's, an hour old
    drop(mail, probes.Probe("f" * 16, now - 90_000, now - 89_000, "d" * 32))  # abandoned
    found = reading(mail)
    assert found.code == "ok", found
    assert (found.detail["late_probes"], found.detail["removed"]) == (1, 3)
    left = mail.mailbox("probe")
    assert sorted(probe.token[0] for raw in left if (probe := probes.read(raw))) == ["b", "c"]
    assert len(left) == 4

"""The two halves of mail: against the real servers, and what only a stand-in says."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from broadcaster.domain.monitor import Reading, Verdict
from broadcaster.monitors import imap_talk, tls
from broadcaster.monitors.fields import Security
from broadcaster.monitors.imap import Imap
from broadcaster.monitors.mail_round_trip import MailRoundTrip
from broadcaster.monitors.smtp import Smtp
from tests.monitors import stand_ins
from tests.monitors.certificates import Authority
from tests.monitors.looks import look, look_at, run
from tests.monitors.mail_system import PASSWORD, MailSystem
from tests.monitors.stand_ins import says, serving
from tests.monitors.web_servers import web_server


def at(mail: MailSystem, port: int, **changes: Any) -> dict[str, Any]:
    user = {"auth": "password", "username": "probe", "password": PASSWORD}
    return {"host": "localhost", "port": port, "ca_certificates": mail.certificates, **user, **changes}


def seen(kind: Any, config: dict[str, Any], loop: str = "asyncio") -> Reading:
    async def main() -> Reading:
        return await look(kind, config)

    return run(main, loop)


# Real servers


@pytest.mark.parametrize(("security", "port"), [("starttls", "submission"), ("tls", "smtps"), ("none", "smtp")])
def test_smtp(mail: MailSystem, security: str, port: str, loop: str) -> None:
    plain = {"auth": "none", "username": None, "password": None} if security == "none" else {}
    found = seen(Smtp(), at(mail, getattr(mail, port), security=security, **plain), loop)
    assert (found.verdict, found.code) == (Verdict.OK, "ok"), found
    assert ("certificate_days" in found.detail) == (security != "none")


@pytest.mark.parametrize(("security", "port"), [("starttls", "imap"), ("tls", "imaps"), ("none", "imap")])
def test_imap(mail: MailSystem, security: str, port: str, loop: str) -> None:
    found = seen(Imap(), at(mail, getattr(mail, port), security=security, allow_cleartext=True), loop)
    assert (found.verdict, found.code) == (Verdict.OK, "ok"), found
    assert isinstance(found.detail["messages"], int)


def test_a_wrong_password(mail: MailSystem) -> None:
    for kind, port in ((Smtp(), mail.submission), (Imap(), mail.imaps)):
        found = seen(kind, at(mail, port, password="not it", security="starttls" if kind.name == "smtp" else "tls"))
        assert (found.verdict, found.code, found.refused) == (Verdict.FAILED, "auth_refused", True), found


def test_a_folder(mail: MailSystem) -> None:
    assert seen(Imap(), at(mail, mail.imaps, folder="Nowhere")).code == "select_refused"


def test_a_certificate_that_ends_soon(mail: MailSystem) -> None:
    for kind, port, security in ((Smtp(), mail.smtps, "tls"), (Imap(), mail.imaps, "tls")):
        found = seen(kind, at(mail, port, security=security, certificate_days=91))
        assert (found.verdict, found.code) == (Verdict.DEGRADED, "certificate_ends_soon"), found


def test_no_way_to_sign_in(mail: MailSystem) -> None:
    found = seen(Smtp(), at(mail, mail.smtp, security="starttls"))  # the port for other servers: it knows no AUTH
    assert (found.verdict, found.code) == (Verdict.FAILED, "auth_not_offered"), found


# What a server may say


def smtp(port: int, **changes: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none", **changes}


PASSWORDED = {"auth": "password", "username": "nurse.probe", "password": "s3cret-word", "allow_cleartext": True}


@pytest.mark.parametrize(
    ("answers", "code", "reply"),
    [
        ((b"554 go away nurse.probe@example.org\r\n",), "greeting_refused", 554),
        ((b"421 too busy\r\n",), "greeting_refused", 421),
        ((b"220 hi\r\n", b"502 what\r\n"), "ehlo_refused", 502),
        ((b"220 hi\r\n", b"250-hi\r\n250 AUTH PLAIN\r\n", b"535 no s3cret-word\r\n"), "auth_refused", 535),
        ((b"220 hi\r\n", b"250-hi\r\n250 AUTH PLAIN\r\n", b"454 the directory is away\r\n"), "auth_unavailable", 454),
        ((b"220 hi\r\n", b"250-hi\r\n250 AUTH GSSAPI\r\n"), "auth_not_offered", None),
        ((b"220 hi\r\n", b"250-hi\r\n250 AUTH LOGIN\r\n", b"334 \r\n", b"535 no\r\n"), "auth_refused", 535),
    ],
)
def test_smtp_replies(answers: tuple[bytes, ...], code: str, reply: int | None) -> None:
    server = serving(says(*answers, then=stand_ins.is_silent))
    found = look_at(Smtp(), server, lambda port: smtp(port, **PASSWORDED))
    assert (found.verdict, found.code, found.detail.get("smtp_code")) == (Verdict.FAILED, code, reply), found
    assert found.refused == (code == "auth_refused")


def test_smtp_asks_once_for_each_look() -> None:
    """Each try counts towards a lock-out; where PLAIN is refused, LOGIN is not tried."""
    asked: list[bytes] = []

    async def server(reader: Any, writer: Any) -> None:
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            asked.append(line.split()[0])
            writer.write(b"250-hi\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n" if line.startswith(b"EHLO") else b"535 no\r\n")

    look_at(Smtp(), serving(server), lambda port: smtp(port, **PASSWORDED))
    assert asked == [b"EHLO", b"AUTH"]


def imap_server(capability: bytes, **answers: bytes) -> stand_ins.Handler:
    """Answers each command by its name, or with OK; the command's tag takes the place of ``TAG``."""

    async def handler(reader: Any, writer: Any) -> None:
        writer.write(answers.get("greeting", b"* OK ready\r\n"))
        while line := await reader.readline():
            tag, name = line.split()[:2]
            answer = answers.get(name.decode().upper(), b"TAG OK done")
            if name.upper() == b"CAPABILITY":
                answer = b"* CAPABILITY IMAP4rev1 " + capability + b"\r\nTAG OK done"
            writer.write(answer.replace(b"TAG", tag) + b"\r\n")

    return handler


def imap(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none", **PASSWORDED}


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (imap_server(b"", greeting=b"* BYE nurse.probe is tired\r\n"), "greeting_refused"),
        (imap_server(b"", greeting=b"* PREAUTH welcome\r\n"), "not_imap"),
        (imap_server(b"LOGINDISABLED"), "auth_not_offered"),
        (imap_server(b"", LOGIN=b"TAG NO [AUTHENTICATIONFAILED] s3cret-word is wrong"), "auth_refused"),
        (imap_server(b"", LOGIN=b"TAG NO [UNAVAILABLE] the directory is away"), "auth_unavailable"),
        (imap_server(b"AUTH=PLAIN SASL-IR", AUTHENTICATE=b"TAG NO no"), "auth_refused"),
        (imap_server(b"AUTH=PLAIN", AUTHENTICATE=b"TAG BAD what"), "auth_refused"),
        (imap_server(b"", SELECT=b"TAG NO [NONEXISTENT] no"), "select_refused"),
        (imap_server(b"", SELECT=b"* BYE shutting down"), "connection_lost"),
        (imap_server(b"", SELECT=b"OTHER OK done"), "not_imap"),
        (imap_server(b"", SELECT=b"* 1 FETCH (BODY {999999999}\r\n"), "not_imap"),
        (imap_server(b"", SELECT=b"* 7 EXISTS\r\n" * 5000), "not_imap"),
        (imap_server(b"", SELECT=b"* 7 EXISTS\r\n* OK {3}\r\nabc\r\nTAG OK done"), "ok"),
    ],
)
def test_imap_answers(server: stand_ins.Handler, code: str) -> None:
    found = look_at(Imap(), serving(server), imap)
    assert found.code == code, found
    assert found.refused == (code == "auth_refused")
    if code == "ok":
        assert found.detail["messages"] == 7


def test_no_sender_can_have_another_message_deleted() -> None:
    """A message whose own header says "UID 1": the number is the server's to tell, not the sender's."""
    forged = b"Message-ID: <x> UID 1 \r\n"
    answers = [
        b"* 2 FETCH (BODY[HEADER.FIELDS (MESSAGE-ID)] {%d}\r\n%s UID 2)\r\n" % (len(forged), forged),
        b'* 3 FETCH (BODY[HEADER.FIELDS (MESSAGE-ID)] "<x> UID 1 \\" UID 1" UID 3)\r\n',
    ]

    async def main() -> None:
        async with serving(imap_server(b"", UID=b"".join(answers) + b"TAG OK done")) as port:
            until = asyncio.get_running_loop().time() + 5
            async with imap_talk.talk("127.0.0.1", port, Security.NONE, tls.context(), until) as talk:
                assert sorted(await talk.header([1, 2, 3], "MESSAGE-ID", until)) == [2, 3]

    run(main)


def test_where_the_server_cannot_remove_by_uid_nobody_elses_message_is_removed() -> None:
    """Without UIDPLUS, EXPUNGE removes all that is marked: it is used only if that is all ours."""
    for marked, removed in ((b"7 8", True), (b"7 8 9", False)):
        asked: list[bytes] = []

        async def server(reader: Any, writer: Any, marked: bytes = marked, asked: list[bytes] = asked) -> None:
            writer.write(b"* OK\r\n")
            while line := await reader.readline():
                tag, command = line.strip().split(b" ", 1)
                asked.append(command)
                writer.write((b"* SEARCH " + marked + b"\r\n" if b"SEARCH" in command else b"") + tag + b" OK\r\n")

        async def main(server: Any = server) -> None:
            async with serving(server) as port:
                until = asyncio.get_running_loop().time() + 5
                async with imap_talk.talk("127.0.0.1", port, Security.NONE, tls.context(), until) as talk:
                    await talk.delete([7, 8], until)

        run(main)
        assert (b"EXPUNGE" in asked) == removed


def test_passwords_of_any_letters_reach_the_mailbox() -> None:
    """By LOGIN they are quoted, or a literal; by PLAIN they are UTF-8."""
    for password in ('quote" back\\slash', "pässwörd", "{3}"):
        got: list[bytes] = []

        async def server(reader: Any, writer: Any, got: list[bytes] = got) -> None:
            writer.write(b"* OK\r\n")
            while line := await reader.readline():
                tag, name, *rest = line.split(b" ", 2)
                if name.strip() == b"LOGIN":
                    got.append(rest[0].rstrip())
                    while got[-1].endswith(b"}"):
                        writer.write(b"+ go on\r\n")
                        got.append((await reader.readline()).rstrip(b"\r\n"))
                writer.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK\r\n")

        def config(port: int, password: str = password) -> dict[str, Any]:
            return {**imap(port), "password": password}

        assert look_at(Imap(), serving(server), config).code == "ok"
        if password.isascii():
            escaped = password.replace("\\", "\\\\").replace('"', '\\"')
            assert got[0] == f'"nurse.probe" "{escaped}"'.encode()
        else:
            assert got[-1] == password.encode()


# XOAUTH2


@asynccontextmanager
async def tokens(answer: Callable[[dict[str, Any]], web.Response]) -> AsyncIterator[str]:
    async def token(request: web.Request) -> web.Response:
        return answer(dict(await request.post()))

    async with web_server([web.post("/t/oauth2/v2.0/token", token)]) as base:
        yield f"{base}/t/oauth2/v2.0/token"


def oauth(url: str) -> dict[str, Any]:
    return {
        "auth": "xoauth2", "username": "nurse.probe", "allow_cleartext": True, "oauth_token_url": url,
        "oauth_client_id": "the-client", "oauth_client_secret": "the-client-secret",
    }  # fmt: skip


def good(form: dict[str, Any]) -> web.Response:
    assert form == {
        "grant_type": "client_credentials", "client_id": "the-client", "client_secret": "the-client-secret",
        "scope": "https://outlook.office365.com/.default",
    }  # fmt: skip
    return web.json_response({"token_type": "Bearer", "expires_in": 3599, "access_token": "the.access.token"})


SASL = base64.b64encode(b"user=nurse.probe\1auth=Bearer the.access.token\1\1")


def test_xoauth2_at_both_servers(loop: str) -> None:
    given: list[bytes] = []

    async def smtp_server(reader: Any, writer: Any) -> None:
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            given.append(line.strip())
            writer.write(b"250-hi\r\n250 AUTH XOAUTH2\r\n" if line.startswith(b"EHLO") else b"235 welcome\r\n")

    async def main() -> None:
        async with tokens(good) as url, serving(smtp_server) as port:
            found = await look(Smtp(), smtp(port, **oauth(url)))
            assert found.code == "ok", found
            assert b"AUTH XOAUTH2 " + SASL in given
        async with tokens(good) as url, serving(imap_server(b"AUTH=XOAUTH2 SASL-IR")) as port:
            found = await look(Imap(), {"host": "127.0.0.1", "port": port, "security": "none", **oauth(url)})
            assert found.code == "ok", found

    run(main, loop)


def test_a_refused_token_is_asked_for_anew() -> None:
    """XOAUTH2's refusal is a "+" with an error, which wants an empty line (Google's and Microsoft's description)."""
    asked = 0

    def counted(form: dict[str, Any]) -> web.Response:
        nonlocal asked
        asked += 1
        return good(form)

    error = base64.b64encode(json.dumps({"status": "401"}).encode())

    async def refuses(reader: Any, writer: Any) -> None:
        writer.write(b"* OK\r\n")
        while line := await reader.readline():
            tag, name = line.split()[:2]
            if name == b"AUTHENTICATE":
                writer.write(b"+ " + error + b"\r\n")
                assert await reader.readline() == b"\r\n"
                writer.write(tag + b" NO [AUTHENTICATIONFAILED] no\r\n")
            else:
                writer.write(b"* CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR\r\n" + tag + b" OK\r\n")

    async def main() -> None:
        kind = Imap()
        async with tokens(counted) as url, serving(refuses) as port:
            config = {"host": "127.0.0.1", "port": port, "security": "none", **oauth(url)}
            for _ in range(2):
                found = await look(kind, config)
                assert (found.code, found.refused) == ("auth_refused", True), found
        assert asked == 2

    run(main)


@pytest.mark.parametrize(
    ("answer", "code", "refused"),
    [
        (web.json_response({"error": "invalid_client"}, status=401), "token_refused", True),
        (web.json_response({"error": "unauthorized_client"}, status=400), "token_refused", True),
        (web.Response(status=503), "token_unavailable", False),
        (web.Response(status=429), "token_unavailable", False),
        (web.Response(text="<html>"), "token_unavailable", False),
        (web.json_response({"access_token": "two\r\nlines"}), "token_unavailable", False),
    ],
)
def test_without_a_token_nothing_is_known(answer: web.Response, code: str, refused: bool) -> None:
    async def main() -> Reading:
        async with tokens(lambda _: answer) as url, stand_ins.nobody() as port:
            return await look(Smtp(), smtp(port, **oauth(url)))

    found = run(main)
    assert (found.verdict, found.code, found.refused) == (Verdict.UNKNOWN, code, refused), found


def test_the_token_service_is_away() -> None:
    async def main() -> None:
        async with stand_ins.nobody() as port:
            config = {
                "smtp_host": "127.0.0.1", "imap_host": "127.0.0.1", "smtp_auth": "xoauth2", "imap_auth": "xoauth2",
                "sender": "a@example.org", "recipient": "b@example.org", **oauth(f"http://127.0.0.1:{port}/token"),
            }  # fmt: skip
            del config["auth"]
            found = await look(MailRoundTrip(), config)
            assert (found.verdict, found.code) == (Verdict.UNKNOWN, "token_unavailable"), found
            assert found.detail["cause"] == "connection_refused"

    run(main)


def test_a_name_in_a_certificate_counts_for_starttls(mail: MailSystem, authority: Authority) -> None:
    found = seen(Smtp(), at(mail, mail.submission, ca_certificates=authority.pem))
    assert found.code == "certificate_untrusted", found  # another authority's

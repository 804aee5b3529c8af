"""The mail system: what it says as a server does, what it refuses as a server does, and its faults."""

from __future__ import annotations

import asyncio
import base64
import imaplib
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from typing import Any

import pytest

from broadcaster.sandbox import mail, mail_imap, mail_smtp, server
from tests.sandbox.sandbox_world import PATIENCE, World, play

ADDRESS = "probe@mail.sandbox.invalid"
PASSWORD = "sandbox-mail-5a4db0c5"
PLAIN = base64.b64encode(f"\0probe\0{PASSWORD}".encode()).decode()
WRONG = base64.b64encode(b"\0probe\0wrong").decode()
MAIL = f"MAIL FROM:<{ADDRESS}>"
RCPT = f"RCPT TO:<{ADDRESS}>"


class Line:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self._writer, self._context = reader, writer, context

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def hear(self) -> str:
        """The next line; empty once the server has closed."""
        return (await asyncio.wait_for(self._reader.readline(), PATIENCE)).decode().rstrip("\r\n")

    async def smtp(self, line: str) -> str:
        """The last line of the reply."""
        await self.raw(line.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> str:
        while (heard := await self.hear())[3:4] == "-":
            pass
        return heard

    async def imap(self, command: str) -> list[str]:
        """Untagged lines and the tagged one, without its tag."""
        await self.raw(f"t1 {command}\r\n".encode())
        return await self.answer()

    async def answer(self) -> list[str]:
        heard = [await self.hear()]
        while not heard[-1].startswith(("t1 ", "+")) and not self._reader.at_eof():
            heard.append(await self.hear())
        return [line.removeprefix("t1 ") for line in heard]

    async def secure(self) -> None:
        await self._writer.start_tls(self._context, server_hostname="localhost")


@asynccontextmanager
async def line_to(world: World, side: str, greeted: bool = True) -> AsyncIterator[Line]:
    """A connection in clear."""
    told = await world.ask("mail")
    reader, writer = await asyncio.open_connection(told[side]["host"], told[side]["port"])
    made = Line(reader, writer, ssl.create_default_context(cadata=told["certificate"]))
    try:
        if greeted:
            await made.hear()
        yield made
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@asynccontextmanager
async def signed_in(world: World, side: str = "smtp") -> AsyncIterator[Line]:
    """An encrypted connection, signed in; for IMAP with INBOX open."""
    async with line_to(world, side) as made:
        if side == "smtp":
            await made.smtp("EHLO test")
            await made.smtp("STARTTLS")
            await made.secure()
            await made.smtp("EHLO test")
            assert (await made.smtp(f"AUTH PLAIN {PLAIN}")).startswith("235")
        else:
            await made.imap("STARTTLS")
            await made.secure()
            assert (await made.imap(f'LOGIN probe "{PASSWORD}"'))[-1].startswith("OK [CAPABILITY")
            assert (await made.imap("SELECT INBOX"))[-1].startswith("OK [READ-WRITE]")
        yield made


async def hand_in(world: World, *messages: str) -> None:
    async with signed_in(world) as smtp:
        for text in messages:
            for command in (MAIL, RCPT):
                assert (await smtp.smtp(command)).startswith("250")
            assert (await smtp.smtp("DATA")).startswith("354")
            assert (await smtp.smtp(text.replace("\n", "\r\n") + "\r\n.")).startswith("250 2.0.0 Ok: queued as")


# ---- as clients know it


def test_the_standard_librarys_clients_send_find_read_and_delete_a_message() -> None:
    async def scene(world: World) -> None:
        told = await world.ask("mail")
        assert await asyncio.to_thread(round_trip, told) == [b"Subject: Hello\r\n\r\n", b"A line\r\n.with a dot\r\n"]
        counts = (await world.ask("mail"))["counts"]
        assert counts == {"taken": 1, "delivered": 1, "lost": 0, "held": 0}
        assert (await world.ask("mail"))["mailboxes"]["probe"] == 0

    play(scene)


def round_trip(told: dict[str, Any]) -> list[bytes]:
    context = ssl.create_default_context(cadata=told["certificate"])
    message = EmailMessage()
    message["From"] = message["To"] = told["address"]
    message["Subject"] = "Hello"
    message.set_content("A line\n.with a dot\n")
    with smtplib.SMTP(told["smtp"]["host"], told["smtp"]["port"], timeout=PATIENCE) as smtp:
        smtp.starttls(context=context)
        smtp.login(told["user"], told["password"])
        assert smtp.send_message(message) == {}
    with imaplib.IMAP4(told["imap"]["host"], told["imap"]["port"], timeout=PATIENCE) as client:
        client.starttls(context)
        client.login(told["user"], told["password"])
        assert client.select() == ("OK", [b"1"])
        uid = client.uid("search", "HEADER", "SUBJECT", "hello")[1][0].decode()
        parts = [
            client.uid("fetch", uid, item)[1][0][1] for item in ("(BODY[HEADER.FIELDS (SUBJECT)])", "(BODY.PEEK[TEXT])")
        ]
        assert client.uid("store", uid, "+FLAGS", "(\\Deleted)")[0] == "OK"
        assert client.uid("expunge", uid)[0] == "OK"
        client.close()
    return parts


def test_aiosmtplibs_login_method_is_taken_too() -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "smtp") as smtp:
            await smtp.smtp("EHLO test")
            await smtp.smtp("STARTTLS")
            await smtp.secure()
            await smtp.smtp("EHLO test")
            assert await smtp.smtp("AUTH LOGIN") == "334 " + base64.b64encode(b"Username:").decode()
            assert await smtp.smtp(base64.b64encode(b"probe").decode()) == "334 " + base64.b64encode(b"Password:").decode()
            assert (await smtp.smtp(base64.b64encode(PASSWORD.encode()).decode())).startswith("235")
            assert (await smtp.smtp(f"AUTH PLAIN {PLAIN}")).startswith("503")  # once only (RFC 4954 §4)

    play(scene)


# ---- SMTP's strictness


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (["HELP"], "500 5.5.2"),
        (["EHLO"], "501"),
        (["EHLO test test"], "501"),
        (["EHLO [127.0.0.1]"], "250"),
        (["EHLO [1.2.3]"], "501"),
        (["EHLO test", MAIL], "530 5.7.0 Must issue"),
        (["EHLO test", f"AUTH PLAIN {PLAIN}"], "530 5.7.0 Must issue"),
        (["STARTTLS"], "503"),
        (["HELO test", "STARTTLS"], "503"),
        (["EHLO test", "STARTTLS now"], "501"),
        (["NOOP anything"], "250"),
        (["QUIT"], "221"),
        (["X" * 3000], "500 5.5.2 Error: line too long"),
        (["EHLO t\u00e9st"], "500"),
    ],
)
def test_what_smtp_refuses_before_it_is_encrypted(commands: list[str], code: str) -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "smtp") as smtp:
            for command in commands:
                reply = await smtp.smtp(command)
            assert reply.startswith(code), reply

    play(scene)


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        ([f"MAIL FROM: <{ADDRESS}>"], "501"),  # no space there (RFC 5321 §3.3)
        ([f"MAIL FROM:{ADDRESS}"], "501"),
        (["MAIL FROM:<ward@mail.sandbox.invalid>"], "553 5.7.1"),
        (["MAIL FROM:<>"], "553 5.7.1"),
        ([f"{MAIL} SIZE=1048577"], "552 5.3.4"),
        ([f"{MAIL} SIZE=1048576 BODY=8BITMIME"], "250"),
        ([f"{MAIL} SIZE=x"], "501"),
        ([f"{MAIL} SIZE=1 SIZE=1"], "501"),
        ([f"{MAIL} SMTPUTF8"], "555"),
        ([MAIL, MAIL], "503"),
        ([RCPT], "503"),
        ([MAIL, "RCPT TO:<nobody@mail.sandbox.invalid>"], "550 5.1.1"),
        ([MAIL, "RCPT TO:<PROBE@mail.sandbox.invalid>"], "550 5.1.1"),
        ([MAIL, "RCPT TO:<probe@MAIL.sandbox.invalid>"], "250"),
        ([MAIL, "RCPT TO:<a@example.org>"], "554 5.7.1"),
        ([MAIL, f"{RCPT} NOTIFY=NEVER"], "555"),
        ([MAIL, *[RCPT] * 101], "452 4.5.3"),
        ([MAIL, "DATA"], "554 5.5.1"),
        (["DATA"], "503"),
        ([MAIL, RCPT, "RSET", "DATA"], "503"),
        ([MAIL, RCPT, "EHLO test", "DATA"], "503"),
        (["STARTTLS"], "503"),
        (["VRFY probe"], "252"),
        ([f"AUTH PLAIN {PLAIN}"], "503"),
    ],
)
def test_what_smtp_refuses_of_who_has_signed_in(commands: list[str], code: str) -> None:
    async def scene(world: World) -> None:
        async with signed_in(world) as smtp:
            for command in commands:
                reply = await smtp.smtp(command)
            assert reply.startswith(code), reply

    play(scene)


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        ([MAIL], "530 5.7.0 Authentication required"),
        ([f"AUTH PLAIN {WRONG}"], "535 5.7.8"),
        (["AUTH PLAIN", WRONG], "535 5.7.8"),
        (["AUTH PLAIN", "*"], "501"),
        (["AUTH PLAIN !!!"], "501"),
        (["AUTH PLAIN ="], "501"),
        (["AUTH CRAM-MD5"], "504"),
    ],
)
def test_who_has_not_signed_in_hands_nothing_in(commands: list[str], code: str) -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "smtp") as smtp:
            for command in ("EHLO test", "STARTTLS"):
                await smtp.smtp(command)
            await smtp.secure()
            await smtp.smtp("EHLO test")
            for command in commands:
                reply = await smtp.smtp(command)
            assert reply.startswith(code), reply

    play(scene)


def test_what_came_before_encryption_counts_for_nothing() -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "smtp") as smtp:
            await smtp.smtp("EHLO test")
            await smtp.smtp("STARTTLS")
            await smtp.secure()
            assert (await smtp.smtp(f"AUTH PLAIN {PLAIN}")).startswith("503")  # EHLO again (RFC 3207 §4.2)
        for side, first, begin in (
            ("smtp", b"EHLO test\r\n", b"STARTTLS\r\nNOOP\r\n"),
            ("imap", b"", b"t1 STARTTLS\r\nt2 NOOP\r\n"),
        ):
            async with line_to(world, side) as intruded:
                await intruded.raw(first)
                if first:
                    await intruded.reply()
                await intruded.raw(begin)
                assert "nothing may follow STARTTLS" in await intruded.hear()
                assert await intruded.hear() == ""

    play(scene)


@pytest.mark.parametrize("smuggled", [b"EHLO test\n", b"EHLO\rtest\r\n", b"NOOP \0\r\n"])
def test_a_bare_line_end_ends_the_conversation(smuggled: bytes) -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "smtp") as smtp:
            await smtp.raw(smuggled)
            assert (await smtp.hear()).startswith("521 5.5.2")
            assert await smtp.hear() == ""
        async with signed_in(world) as smtp:
            for command in (MAIL, RCPT, "DATA"):
                await smtp.smtp(command)
            await smtp.raw(b"one\r\n\n.\n")
            assert (await smtp.hear()).startswith("521 5.5.2")
        assert (await world.ask("mail"))["counts"]["taken"] == 0

    play(scene)


def test_dots_are_unstuffed_and_what_is_too_large_is_refused_in_whole() -> None:
    async def scene(world: World) -> None:
        await hand_in(world, "Subject: dots\n\n..one\n...two")
        async with signed_in(world) as smtp:
            for text, code in (("x" * 1200, "500 5.6.0"), ("\r\n".join(["y" * 900] * 1200), "552 5.3.4"), ("z", "250")):
                for command in (MAIL, RCPT, "DATA"):
                    await smtp.smtp(command)
                assert (await smtp.smtp(f"Subject: t\r\n\r\n{text}\r\n.")).startswith(code)
        async with signed_in(world, "imap") as imap:
            answer = await imap.imap("FETCH 1 BODY[TEXT]")
            assert answer[1:3] == [".one", "..two"]
        assert (await world.ask("mail"))["mailboxes"]["probe"] == 2

    play(scene)


@pytest.mark.parametrize(("side", "last"), [("smtp", "421 4.7.0"), ("imap", "* BYE too many errors")])
def test_who_makes_too_many_mistakes_is_cut_off(side: str, last: str) -> None:
    async def scene(world: World) -> None:
        async with line_to(world, side) as line:
            await line.raw(b"RUBBISH\r\n" * 20)
            heard = [await line.hear()]
            while heard[-1]:
                heard.append(await line.hear())
            assert heard[-2].startswith(last), heard
            assert len(heard) == 13

    play(scene)


def test_a_silent_client_is_left_and_too_many_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_smtp, "IDLE", 0.1)
    monkeypatch.setattr(mail, "MOST_CONVERSATIONS", 1)

    async def scene(world: World) -> None:
        async with line_to(world, "smtp") as smtp:
            assert await smtp.hear() == ""
        async with line_to(world, "imap"), line_to(world, "imap", greeted=False) as second:
            assert await second.hear() == "* BYE too many connections"

    play(scene)


# ---- IMAP's strictness


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("FROBNICATE", "BAD unknown command"),
        ("CAPABILITY now", "BAD"),
        ("NOOP ", "BAD"),
        ("SELECT INBOX", "BAD sign in first"),
        ("UID FETCH 1 UID", "BAD select a mailbox first"),
        ("UID NOOP", "BAD unknown command"),
        (f'LOGIN probe "{PASSWORD}"', "NO [PRIVACYREQUIRED]"),
        (f"AUTHENTICATE PLAIN {PLAIN}", "NO [PRIVACYREQUIRED]"),
        ("LOGOUT", "OK"),
    ],
)
def test_what_imap_refuses_before_it_is_encrypted(command: str, answer: str) -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "imap") as imap:
            assert (await imap.imap(command))[-1].startswith(answer)

    play(scene)


def test_signing_in_to_the_mailbox() -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "imap") as imap:
            assert "STARTTLS LOGINDISABLED" in (await imap.imap("CAPABILITY"))[0]
            await imap.imap("STARTTLS")
            await imap.secure()
            assert "AUTH=PLAIN" in (await imap.imap("CAPABILITY"))[0]
            assert (await imap.imap("AUTHENTICATE GSSAPI"))[-1].startswith("NO")
            assert (await imap.imap(f"AUTHENTICATE PLAIN {WRONG}"))[-1].startswith("NO [AUTHENTICATIONFAILED]")
            assert (await imap.imap("AUTHENTICATE PLAIN"))[-1].startswith("+")
            await imap.raw(b"*\r\n")
            assert (await imap.answer())[-1].startswith("BAD")
            await imap.raw(b"t1 LOGIN probe {21}\r\n")
            assert (await imap.hear()).startswith("+")
            await imap.raw(PASSWORD.encode() + b"\r\n")
            assert (await imap.answer())[-1].startswith("OK [CAPABILITY")
            assert (await imap.imap(f"LOGIN probe {PASSWORD}"))[-1].startswith("BAD")
            assert (await imap.imap("SELECT Archive"))[-1].startswith("NO [NONEXISTENT]")
        async with line_to(world, "imap") as imap:
            await imap.imap("STARTTLS")
            await imap.secure()
            for _ in range(3):
                assert (await imap.imap("LOGIN probe wrong"))[-1].startswith("NO [AUTHENTICATIONFAILED]")
            assert (await imap.hear()).startswith("* BYE too many wrong passwords")

    play(scene)


MESSAGES = (
    "Message-ID: <one@x>\nSubject: Mail check one\nFrom: Ana <a@x>\n\nBody of one",
    "Message-ID: <two@x>\nSubject: Mail\n check two\nX-Broadcaster-Probe: 1\n\nBody of two",
    "Message-ID: <three@x>\nSubject: Nothing\n\nquotes Mail check one",
)


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ("ALL", "1 2 3"),
        ("1", "1"),
        ("2:*", "2 3"),
        ("*", "3"),
        ("7:*", "3"),  # "*" is below 7, and a range has no direction (RFC 3501 §6.4.8)
        ("UID 1,3", "1 3"),
        ('SUBJECT "mail check"', "1 2"),  # unfolded, in any case
        ('HEADER MESSAGE-ID "<two@x>"', "2"),
        ('HEADER X-BROADCASTER-PROBE ""', "2"),
        ('OR HEADER MESSAGE-ID "<three@x>" SUBJECT one', "1 3"),
        ("NOT SUBJECT mail", "3"),
        ("(FROM ana ALL) NOT 2", "1"),
        ('TEXT "mail check one"', "1 3"),
        ('BODY "mail check one"', "3"),
        ("SINCE 1-Jan-2020", "1 2 3"),
        ("BEFORE 01-Jan-2020", ""),
        ("UNDELETED UNSEEN", "1 2 3"),
        ("CHARSET UTF-8 DELETED", ""),
    ],
)
def test_searching(criteria: str, found: str) -> None:
    async def scene(world: World) -> None:
        await hand_in(world, *MESSAGES)
        async with signed_in(world, "imap") as imap:
            for command in ("SEARCH", "UID SEARCH"):
                answer = await imap.imap(f"{command} {criteria}")
                assert answer == [f"* SEARCH {found}".rstrip(), f"OK {command} completed"]

    play(scene)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("SEARCH", "BAD"),
        ("SEARCH  ALL", "BAD"),
        ("SEARCH ALL ", "BAD"),
        ("SEARCH FROBNICATED", "BAD unknown search key"),
        ("SEARCH SINCE 31-Feb-2026", "BAD date"),
        ("SEARCH SINCE 2026-02-01", "BAD date"),
        ("SEARCH HEADER SUBJECT", "BAD"),
        ('SEARCH SUBJECT "half', "BAD"),
        ("SEARCH " + "NOT " * 30 + "ALL", "BAD too many"),
        ("SEARCH CHARSET KLINGON ALL", "NO [BADCHARSET"),
        ("FETCH 0 UID", "BAD"),
        ("FETCH 4 UID", "BAD"),
        ("UID FETCH 4 UID", "OK"),
        ("FETCH 1 ENVELOPE", "BAD unknown data item"),
        ("FETCH 1 BODY[1.MIME]", "BAD unknown section"),
        ("FETCH 1 (UID", "BAD"),
        ("FETCH 1 (BODY.PEEK[HEADER.FIELDS ()])", "BAD"),
        ("STORE 1 *FLAGS (\\Seen)", "BAD"),
        ("STORE 1 +KEYWORDS (\\Seen)", "BAD unknown data item"),
        ("STORE 1 +FLAGS (\\Recent)", "NO"),
        ("STORE 1 +FLAGS (\\Seen", "BAD"),
        ("UID EXPUNGE", "BAD"),
        ("LOGIN {99999}", "BAD literal too large"),
        ("X" * 9000, "BAD line too long"),
    ],
)
def test_what_imap_refuses_of_who_has_signed_in(command: str, answer: str) -> None:
    async def scene(world: World) -> None:
        await hand_in(world, *MESSAGES)
        async with signed_in(world, "imap") as imap:
            await imap.raw(f"t1 {command}\r\n".encode())
            heard = await imap.hear()
            while not heard.startswith(("t1 ", "* BAD")):
                heard = await imap.hear()
            assert heard[heard.index(" ") + 1 :].startswith(answer), heard

    play(scene)


def test_only_what_is_asked_for_is_shown_and_a_look_at_the_header_leaves_a_message_unseen() -> None:
    async def scene(world: World) -> None:
        await hand_in(world, *MESSAGES)
        async with signed_in(world, "imap") as imap:
            answer = await imap.imap(
                "UID FETCH 2 (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID X-BROADCASTER-PROBE)])"
            )
            assert answer[0].startswith('* 2 FETCH (UID 2 INTERNALDATE "')
            assert answer[0].endswith("BODY[HEADER.FIELDS (MESSAGE-ID X-BROADCASTER-PROBE)] {47}")
            assert answer[1:4] == ["Message-ID: <two@x>", "X-Broadcaster-Probe: 1", ""]
            assert (await imap.imap("FETCH 2 FLAGS"))[0] == "* 2 FETCH (FLAGS ())"
            await imap.imap("FETCH 2 BODY[]")
            assert (await imap.imap("FETCH 2 FLAGS"))[0] == "* 2 FETCH (FLAGS (\\Seen))"

    play(scene)


def test_two_clients_of_one_mailbox_see_each_others_changes_in_order() -> None:
    async def scene(world: World) -> None:
        await hand_in(world, *MESSAGES)
        async with signed_in(world, "imap") as one, signed_in(world, "imap") as two:
            assert (await one.imap("STORE 1,3 +FLAGS.SILENT (\\Deleted)")) == ["OK STORE completed"]
            assert (await one.imap("UID EXPUNGE 2:3")) == ["* 3 EXPUNGE", "OK UID EXPUNGE completed"]
            assert (await two.imap("FETCH 3 UID")) == ["OK FETCH completed"]  # gone, and its number is still taken
            await hand_in(world, "Subject: four\n\n4")
            assert (await two.imap("NOOP")) == ["* 3 EXPUNGE", "* 3 EXISTS", "OK NOOP completed"]
            assert (await two.imap("UID SEARCH ALL"))[0] == "* SEARCH 1 2 4"  # a UID is never used again
            assert (await two.imap("CLOSE")) == ["OK CLOSE completed"]
            assert (await one.imap("NOOP")) == ["* 1 EXPUNGE", "* 2 EXISTS", "OK NOOP completed"]
            assert (await one.imap("EXAMINE INBOX"))[-1].startswith("OK [READ-ONLY]")
            assert (await one.imap("STORE 1 FLAGS (\\Deleted)"))[-1].startswith("NO [READ-ONLY]")

    play(scene)


# ---- faults


async def mend(world: World) -> None:
    async with world.http.delete(f"{world.origin}/_sandbox/faults") as answer:
        assert answer.status == 200


def test_lost_mail_is_taken_in_and_never_arrives() -> None:
    async def scene(world: World) -> None:
        await world.fault(provider="mail", kind="lost", count=1)
        await hand_in(world, "Subject: a\n\n", "Subject: b\n\n")
        told = await world.ask("mail")
        assert told["counts"] == {"taken": 2, "delivered": 1, "lost": 1, "held": 0}
        await mend(world)
        assert (await world.ask("mail"))["mailboxes"]["probe"] == 1

    play(scene)


def test_stuck_mail_arrives_when_the_last_such_fault_ends() -> None:
    async def scene(world: World) -> None:
        first = await world.fault(provider="mail", kind="stuck")
        await world.fault(provider="mail", kind="stuck", match="ward@")
        await hand_in(world, "Subject: a\n\n")
        async with world.http.delete(f"{world.origin}/_sandbox/faults/{first['id']}") as answer:
            assert answer.status == 200
        assert (await world.ask("mail"))["counts"]["held"] == 1
        await mend(world)
        told = await world.ask("mail")
        assert (told["counts"]["held"], told["mailboxes"]["probe"]) == (0, 1)

    play(scene)


def test_down_cuts_conversations_and_closes_the_port_until_it_is_mended() -> None:
    async def scene(world: World) -> None:
        async with line_to(world, "imap") as imap, line_to(world, "smtp") as smtp:
            before = await world.ask("mail")
            await world.fault(provider="mail", kind="down", operation="lookup")
            assert await imap.hear() == ""
            assert (await smtp.smtp("NOOP")).startswith("250")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", before["imap"]["port"])
            told = await world.ask("mail")
            assert (told["smtp"]["open"], told["imap"]["open"]) == (True, False)
            await world.tell("reset", {}, 200)
            assert await world.ask("mail") == before
        async with line_to(world, "imap"):
            pass

    play(scene)


def test_the_control_says_what_a_mail_fault_may_be() -> None:
    async def scene(world: World) -> None:
        for body, word in (
            ({"provider": "mail", "kind": "status"}, "kind"),
            ({"provider": "twilio", "kind": "lost"}, "kind"),
            ({"provider": "mail", "kind": "lost", "seconds": 3}, "seconds"),
            ({"provider": "mail", "kind": "down", "probability": 0.5}, "probability"),
        ):
            assert word in (await world.tell("faults", body, 400))["detail"]

    play(scene)


def test_a_taken_port_is_told_and_nothing_is_left_listening() -> None:
    async def main() -> None:
        taken = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            await server.start(server.SandboxConfig(imap_port=port))
        taken.close()
        await taken.wait_closed()

    asyncio.run(main())


def test_bounds_are_what_standards_ask_for_at_least() -> None:
    """RFC 5321 §4.5.3.1: a command of 512 octets, 64 KiB of message, 100 recipients."""
    assert mail_smtp.MAX_MESSAGE >= 65_536
    assert mail_smtp.MAX_RECIPIENTS >= 100
    assert mail_imap.MAX_REFUSALS >= 1

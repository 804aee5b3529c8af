"""A real mail system on loopback: Postfix takes mail in and delivers it to Dovecot, which people read it from.

Everything lives in a temporary directory on free ports; nothing of the system's own mail is touched. Needs root (Postfix
insists) and the Debian packages in ``PACKAGES``. ``USERS`` at probe.test have mailboxes, and ``PASSWORD`` opens them; mail
for anybody else there is taken in, then returned; for "refused" it is refused at once.
Both servers run in the foreground as children of ours, so that "started", "stopped" and "changed" are facts, not hopes.
"""

import imaplib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.monitors.certificates import Authority, Pair
from tests.ports import free_port

PACKAGES: Final = "postfix dovecot-imapd dovecot-lmtpd"
DOMAIN: Final = "probe.test"
PASSWORD: Final = 'Probe-pass "with" \\ spaces'  # as awkward as people's passwords are
_MASTER: Final = Path("/usr/lib/postfix/sbin/master")
_IMAP: Final = Path("/usr/lib/dovecot/imap")
_LMTP: Final = Path("/usr/lib/dovecot/lmtp")


def missing() -> str | None:
    """Why it cannot run here; None where it can."""
    if os.geteuid() != 0:
        return "run the tests as root"
    if not (_MASTER.exists() and _IMAP.exists() and _LMTP.exists() and shutil.which("dovecot")):
        return f"apt-get install {PACKAGES}"
    return None


class Fault(StrEnum):
    """What can be wrong with it."""

    NONE = "none"
    LOST = "lost"  # taken in, never delivered
    STUCK = "stuck"  # taken in, kept in the queue
    AUTH = "auth"  # the password is another one
    DOWN = "down"  # neither server runs
    EXPIRED = "expired"  # both certificates have ended


class MailSystem:
    """``start``, ``fault`` and ``stop`` return when what they say is so."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ab-mail-", dir="/tmp"))  # short: a unix socket's path has 108 bytes
        self.folder.chmod(0o755)
        self.authority = Authority(self.folder)
        self._good = self.authority.pair("good")
        self._expired = self.authority.pair("expired", days=-2)
        self.smtp, self.submission, self.smtps = free_port(), free_port(), free_port()
        self.imap, self.imaps, self._lmtp, self._auth = free_port(), free_port(), free_port(), free_port()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._fault = Fault.NONE
        for name in ("run", "mail", "postfix", "queue", "data"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "mail", "nobody", "nogroup")
        shutil.chown(self.folder / "data", "postfix")

    @property
    def certificates(self) -> str:
        """What a client has to trust."""
        return self.authority.pem

    def start(self) -> None:
        self.fault(Fault.NONE)

    def fault(self, fault: Fault) -> None:
        """Brings this fault about, and mends any other. Mail that was stuck is delivered as soon as it is mended."""
        before, self._fault = self._fault, fault
        if fault is Fault.DOWN:
            self._end("postfix")
            self._end("dovecot")
            return
        password = "another" if fault is Fault.AUTH else PASSWORD
        self._write("users", "".join(self._user(user, password) for user in USERS))
        pair = self._expired if fault is Fault.EXPIRED else self._good
        if self._write("dovecot.conf", self._dovecot(pair)) or "dovecot" not in self._running:
            self._end("dovecot")
            self._begin("dovecot", ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")], self.imap, b"* OK")
        self._until_password(password)
        written = self._write("postfix/main.cf", self._main(pair, fault))
        if self._write("postfix/master.cf", self._master()) or written or "postfix" not in self._running:
            self._end("postfix")
            if not (self.folder / "queue" / "maildrop").exists():
                self._run("postfix", "-c", str(self.folder / "postfix"), "check")  # makes the queue's directories
            # master itself: "postfix start-fg" leaves it to a session of its own, where our signal does not reach it.
            self._begin("postfix", [str(_MASTER), "-c", str(self.folder / "postfix"), "-d"], self.smtp, b"220")
        if before is Fault.STUCK:
            self._run("postqueue", "-c", str(self.folder / "postfix"), "-f")

    def stop(self) -> None:
        """Both are gone, and so are their files."""
        self._end("postfix")
        self._end("dovecot")
        shutil.rmtree(self.folder, ignore_errors=True)

    def mailbox(self, user: str) -> list[bytes]:
        """The messages in a user's INBOX, raw."""
        box = self.folder / "mail" / user
        return [path.read_bytes() for part in ("new", "cur") for path in sorted((box / part).glob("*"))]

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    # Processes

    def _begin(self, name: str, command: list[str], port: int, greeting: bytes) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
        self._running[name] = process
        deadline = time.monotonic() + 20
        while not _greets(port, greeting):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{(self.folder / f'{name}.out').read_text()}\n{self.log()}")
            time.sleep(0.02)

    def _end(self, name: str) -> None:
        """The whole session of processes is gone when this returns."""
        process = self._running.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a server's children that still finish something

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=20, stdin=subprocess.DEVNULL)

    # Configuration

    def _write(self, name: str, text: str) -> bool:
        """Whether it is new."""
        path = self.folder / name
        if path.exists() and path.read_text() == text:
            return False
        path.write_text(text)
        return True

    def _user(self, user: str, password: str) -> str:
        """A line of Dovecot's passwd-file."""
        nobody = pwd.getpwnam("nobody")
        return f"{user}:{{PLAIN}}{password}:{nobody.pw_uid}:{nobody.pw_gid}::{self.folder}/mail/{user}::\n"

    def _until_password(self, password: str) -> None:
        """Dovecot looks once a second whether the file of users has changed."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            client = imaplib.IMAP4("127.0.0.1", self.imap, timeout=10)
            try:
                client.login(USERS[0], password)
                return
            except imaplib.IMAP4.error:
                time.sleep(0.05)  # not yet
            finally:
                client.shutdown()
        raise RuntimeError(f"the password did not change:\n{self.log()}")

    def _dovecot(self, pair: Pair) -> str:
        where = self.folder
        return f"""
base_dir = {where}/run
log_path = {where}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{pair.certificate}
ssl_key = <{pair.key}
disable_plaintext_auth = no
auth_failure_delay = 0
mail_location = maildir:{where}/mail/%n
first_valid_uid = 1
auth_mechanisms = plain login
passdb {{
  driver = passwd-file
  args = username_format=%n {where}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {where}/users
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = {self.imaps}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self._lmtp}
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {self._auth}
  }}
}}
"""

    def _main(self, pair: Pair, fault: Fault) -> str:
        where = self.folder
        transport = "discard:" if fault is Fault.LOST else f"lmtp:inet:127.0.0.1:{self._lmtp}"
        return f"""
compatibility_level = 3.6
queue_directory = {where}/queue
data_directory = {where}/data
maillog_file_prefixes = {where}
maillog_file = {where}/postfix.log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = localhost.test
mydestination =
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = static:all
virtual_transport = {transport}
defer_transports = {"lmtp" if fault is Fault.STUCK else ""}
relayhost = [127.0.0.1]:1
bounce_queue_lifetime = 1d
smtpd_tls_cert_file = {pair.certificate}
smtpd_tls_key_file = {pair.key}
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{self._auth}
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ refused@{DOMAIN} = 550 5.7.1 not today }} }}
smtpd_error_sleep_time = 0
"""

    def _master(self) -> str:
        internal = ["proxymap", "smtp", "error", "retry", "discard", "lmtp"]
        lines = [
            f"127.0.0.1:{self.smtp} inet n - n - - smtpd",
            f"127.0.0.1:{self.submission} inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=yes"
            " -o smtpd_tls_security_level=encrypt",
            f"127.0.0.1:{self.smtps} inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_tls_wrappermode=yes"
            " -o smtpd_tls_security_level=encrypt",
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "rewrite unix - - n - - trivial-rewrite",
            "relay unix - - n - - smtp",
            "flush unix n - n 1000? 0 flush",
            "showq unix n - n - - showq",
            *(f"{name} unix - - n - - {'error' if name == 'retry' else name}" for name in internal),
            "postlog unix-dgram n - n - 1 postlogd",
        ]
        return "\n".join(lines) + "\n"


#: Whose mailboxes can be opened.
USERS: Final = ("probe", "other")


def _greets(port: int, greeting: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(64).startswith(greeting)
    except OSError:
        return False

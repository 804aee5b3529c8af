"""A real mail system in place of our own: Postfix and Dovecot, on free ports of 127.0.0.1, every file in one directory.

No service of the machine is touched: both run with configurations, queue and sockets of their own, as our children. Needs
root, because Postfix does, and Dovecot 2.3: its successor's configuration is another one. Faults are those of `mail_post`,
brought about by configuration: `lost` is `virtual_transport = discard:`, `stuck` is `defer_transports`.
"""

from __future__ import annotations

import imaplib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from broadcaster.sandbox import credentials, mail_certificate

PACKAGES: Final = "postfix dovecot-imapd dovecot-lmtpd"
_HOST: Final = "127.0.0.1"
_READY: Final = 20.0
#: Runs a command, and ends it when standard input ends: when we close that, or are killed. (The kernel's own way for that,
#: PR_SET_PDEATHSIG, is forgotten as soon as master changes its effective user.)
_KEEPER: Final = """
exec 3<&0
"$@" 3<&- </dev/null & child=$!
{ read -r _ <&3; kill -TERM "$child"; } &
wait "$child"; code=$?
trap '' TERM
kill -TERM 0
exit "$code"
"""
_SOCKETS: Final = ("smtp", "imap", "lmtp", "auth")


class NoStart(Exception):
    """A server did not start, or did not do as it was told; the text says which, and what it said."""


def missing() -> str | None:
    """Why it cannot run here, in a few words; None where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux can run Postfix"
    if not all(shutil.which(name) for name in ("postfix", "postconf", "postqueue", "dovecot")):
        return f"they are not installed ({PACKAGES})"
    parts = Path(_ask("doveconf", "-h", "libexec_dir") or "/usr/lib/dovecot")
    if not _ask("dovecot", "--version").startswith("2.3.") or not all((parts / name).exists() for name in ("imap", "lmtp")):
        return f"they need Dovecot 2.3 with IMAP and LMTP ({PACKAGES})"
    return None


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()  # noqa: S603
    except OSError:
        return ""


class PostfixMail:
    """`start`, `fault` and `stop` return when what they say is so."""

    def __init__(self) -> None:
        # Not in the data directory: that is closed to all but us, and both servers give up root. Short: see sun_path.
        self.folder = Path(tempfile.mkdtemp(prefix="ab-postfix-", dir="/tmp"))  # noqa: S108
        self.folder.chmod(0o711)
        self._ports = dict(zip(_SOCKETS, _free_ports(len(_SOCKETS)), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._fault: str | None = None
        self._certificate, self._key = mail_certificate.make(_HOST)

    def told(self) -> dict[str, Any]:
        """How to use it, as `GET /_sandbox/mail` tells it of our own."""
        user = credentials.MAIL_USER
        return {
            "smtp": {"host": _HOST, "port": self._ports["smtp"]},
            "imap": {"host": _HOST, "port": self._ports["imap"]},
            "user": user,
            "password": credentials.MAIL_PASSWORD,
            "address": f"{user}@{credentials.MAIL_DOMAIN}",
            "certificate": self._certificate,
        }

    @property
    def transport(self) -> str:
        """What `virtual_transport` is while all is well."""
        return f"lmtp:inet:{_HOST}:{self._ports['lmtp']}"

    def start(self) -> None:
        """Both servers answer. Raises NoStart, OSError, LookupError (no such user), with nothing left running."""
        try:
            self._prepare()
            self.fault(None)
        except BaseException:
            self.stop()
            raise

    def _prepare(self) -> None:
        (self.folder / "key.pem").touch(mode=0o600)
        self._write("key.pem", self._key)
        self._write("certificate.pem", self._certificate)
        for name in ("run", "mail", "postfix", "queue", "data"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "mail", "nobody", pwd.getpwnam("nobody").pw_gid)
        shutil.chown(self.folder / "data", "postfix")

    def fault(self, kind: str | None) -> None:
        """Brings about one fault of `mail_post`, and ends any other; None: none. Raises NoStart."""
        before, self._fault = self._fault, kind
        if kind == "down":
            self._end("postfix")
            self._end("dovecot")
            return
        password = "other" if kind == "auth" else credentials.MAIL_PASSWORD
        new = self._write("users", f"{credentials.MAIL_USER}:{{PLAIN}}{password}\n")
        self._write("dovecot.conf", self._dovecot())
        self._begin("dovecot", ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")], "imap", b"* OK")
        if new:
            self._until_password(password)
        changed = self._write("postfix/main.cf", self._main())
        self._write("postfix/master.cf", self._master())
        if "postfix" not in self._running:
            self._postfix("postfix", "check")  # makes the queue's directories
            # master itself: "postfix start-fg" leaves it to a session of its own, where no signal of ours reaches it.
            master = Path(_ask("postconf", "-dh", "daemon_directory")) / "master"
            self._begin("postfix", [str(master), "-c", str(self.folder / "postfix"), "-d"], "smtp", b"220")
        elif changed:
            self._postfix("postfix", "reload")
        if before == "stuck":
            self._postfix("postqueue", "-f")

    def stop(self) -> None:
        """Both are gone with all their children, and so are their files."""
        self._end("postfix")
        self._end("dovecot")
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- processes

    def _begin(self, name: str, command: list[str], port: str, greeting: bytes) -> None:
        if name in self._running:
            return
        with (self.folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(  # noqa: S603 - our own command
                ["/bin/sh", "-c", _KEEPER, "keeper", *command], stdin=subprocess.PIPE, stdout=out, stderr=out,
                start_new_session=True, cwd=self.folder, env={"PATH": os.environ.get("PATH", os.defpath)},
            )  # fmt: skip
        self._running[name] = process
        deadline = time.monotonic() + _READY
        while not self._greets(port, greeting):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoStart(f"{name} did not start: {self._last_words()}")
            time.sleep(0.02)

    def _greets(self, port: str, greeting: bytes) -> bool:
        try:
            with socket.create_connection((_HOST, self._ports[port]), 5) as connection:
                return connection.recv(64).startswith(greeting)
        except OSError:
            return False

    def _end(self, name: str) -> None:
        """The whole session of processes is gone when this returns."""
        process = self._running.pop(name, None)
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):  # what hangs, and children that still finish something
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _postfix(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self.folder / "postfix"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
        if done.returncode != 0:
            raise NoStart(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")

    def _last_words(self) -> str:
        texts = [path.read_text(errors="replace") for path in (*self.folder.glob("*.out"), *self.folder.glob("*.log"))]
        return " ".join(text.strip()[-300:] for text in texts if text.strip()) or "it said nothing"

    def _until_password(self, password: str) -> None:
        """Dovecot looks once a second whether the file of users has changed."""
        context = ssl.create_default_context(cadata=self._certificate)
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            with imaplib.IMAP4(_HOST, self._ports["imap"], timeout=5) as client, suppress(imaplib.IMAP4.error):
                client.starttls(context)
                client.login(credentials.MAIL_USER, password)
                return
            time.sleep(0.1)
        raise NoStart(f"the password did not change: {self._last_words()}")

    # -- configuration

    def _write(self, name: str, text: str) -> bool:
        """Whether it is new."""
        path = self.folder / name
        if path.exists() and path.read_text() == text:
            return False
        path.write_text(text)
        return True

    def _dovecot(self) -> str:
        ports, where = self._ports, self.folder
        return f"""
base_dir = {where}/run
state_dir = {where}/run
log_path = {where}/dovecot.log
protocols = imap lmtp
listen = {_HOST}
ssl = yes
ssl_cert = <{where}/certificate.pem
ssl_key = <{where}/key.pem
auth_failure_delay = 0
mail_location = maildir:{where}/mail/%n
first_valid_uid = 1
auth_mechanisms = plain login
auth_username_format = %n
passdb {{
  driver = passwd-file
  args = {where}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid={pwd.getpwnam("nobody").pw_gid} home={where}/mail/%n allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {ports["imap"]}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {_HOST}
    port = {ports["lmtp"]}
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = {_HOST}
    port = {ports["auth"]}
  }}
}}
"""

    def _main(self) -> str:
        ports, where = self._ports, self.folder
        transport = "discard:" if self._fault == "lost" else self.transport
        return f"""
compatibility_level = 3.6
queue_directory = {where}/queue
data_directory = {where}/data
maillog_file_prefixes = {where}
maillog_file = {where}/postfix.log
inet_interfaces = {_HOST}
inet_protocols = ipv4
myhostname = localhost.invalid
mydestination =
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = {credentials.MAIL_DOMAIN}
virtual_mailbox_maps = static:all
virtual_transport = {transport}
defer_transports = {"lmtp" if self._fault == "stuck" else ""}
relayhost = [{_HOST}]:1
smtpd_tls_cert_file = {where}/certificate.pem
smtpd_tls_key_file = {where}/key.pem
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:{_HOST}:{ports["auth"]}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""

    def _master(self) -> str:
        internal = ["proxymap", "smtp", "error", "retry", "discard", "lmtp"]
        lines = [
            f"{_HOST}:{self._ports['smtp']} inet n - n - - smtpd",
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


def _free_ports(count: int) -> list[int]:
    """Different ones: all are held until all are known."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((_HOST, 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()

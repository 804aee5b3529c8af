"""A real headless Firefox, driven over Marionette (its own remote protocol): a launcher and a small client.

https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html: ``length:[0, id, command, parameters]`` there,
``length:[1, id, error, result]`` back.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

#: In this order; Debian calls it firefox-esr.
BINARIES: Final = ("firefox-esr", "firefox")
_START_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 30.0
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for a reference to an element

#: What open alert windows say. Firefox draws them itself where the desktop's notifications are not used.
_ALERTS: Final = """
return [...Services.wm.getEnumerator("alert:alert")].map((w) => ({
  title: w.document.getElementById("alertTitleLabel")?.getAttribute("value") ?? "",
  body: w.document.getElementById("alertTextLabel")?.textContent ?? "",
}));
"""


class MarionetteError(Exception):
    """Firefox refused a command."""


def binary() -> str | None:
    """Where Firefox is, if it is."""
    return next((found for name in BINARIES if (found := shutil.which(name))), None)


def until(what: Callable[[], T], seconds: float = 30.0, name: str = "") -> T:
    """Polls a real condition; raises AssertionError when it does not come true."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{name or 'condition'} did not come true within {seconds} s (last: {value!r})")
        time.sleep(0.05)  # the interval of the polling; nothing is assumed to have happened by then


class Marionette:
    """One connection, one WebDriver session."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._receive()  # its greeting
        self.command("WebDriver:NewSession", capabilities={"alwaysMatch": {}})
        self.command("WebDriver:SetTimeouts", script=20_000, pageLoad=20_000)

    def command(self, name: str, **parameters: Any) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        kind, number, error, result = self._receive()
        assert (kind, number) == (1, self._number), "an answer to another command"
        if error:
            raise MarionetteError(f"{name}: {error['error']}: {error['message']}")
        return result["value"] if isinstance(result, dict) and set(result) == {"value"} else result

    def open(self, url: str) -> None:
        self.command("WebDriver:Navigate", url=url)

    def run(self, script: str, *args: Any) -> Any:
        """JavaScript in the page; a promise that it returns is awaited."""
        return self.command("WebDriver:ExecuteScript", script=script, args=list(args), newSandbox=True)

    def click(self, selector: str) -> None:
        """As a person would: it must be there, visible and not covered."""
        element = self.command("WebDriver:FindElement", using="css selector", value=selector)
        self.command("WebDriver:ElementClick", id=element[_ELEMENT])

    def visible(self, selector: str) -> bool:
        """Whether the page shows it now."""
        script = "return Boolean(document.querySelector(arguments[0])?.checkVisibility())"
        return bool(self.run(script, selector))

    def alerts(self) -> list[dict[str, str]]:
        """The notifications on the screen: ``title`` and ``body``."""
        self.command("Marionette:SetContext", value="chrome")
        try:
            shown: list[dict[str, str]] = self.run(_ALERTS)
            return shown
        finally:
            self.command("Marionette:SetContext", value="content")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _receive(self) -> Any:
        length = b""
        while (byte := self._file.read(1)) != b":":
            if not byte:
                raise MarionetteError("Firefox has closed the connection")
            length += byte
        return json.loads(self._file.read(int(length)))


class Firefox:
    """A Firefox with a fresh profile that reaches nothing but this machine."""

    def __init__(self, program: str, push_server: str) -> None:
        self._program = program
        self._preferences = _preferences(push_server)
        self._home = Path(tempfile.mkdtemp(prefix="ab-firefox-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self.marionette: Marionette

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    @property
    def log(self) -> str:
        return (self._home / "firefox.log").read_text(errors="replace")

    def _start(self) -> None:
        profile = self._home / "profile"
        profile.mkdir()
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in self._preferences.items()]
        (profile / "user.js").write_text("".join(lines))
        command = [self._program, "--headless", "--no-remote", "--profile", str(profile)]
        command += ["--marionette", "--remote-allow-system-access", "about:blank"]
        unwanted = ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "http_proxy", "https_proxy", "all_proxy")
        environment = {k: v for k, v in os.environ.items() if k not in unwanted and k.lower() not in unwanted}
        environment |= {"HOME": str(self._home), "MOZ_HEADLESS": "1", "MOZ_CRASHREPORTER_DISABLE": "1"}
        with open(self._home / "firefox.log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        told = profile / "MarionetteActivePort"
        self.marionette = Marionette(until(lambda: self._port(told), _START_SECONDS, "Firefox's Marionette port"))

    def _port(self, told: Path) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"Firefox ended with {self._process.returncode}:\n{self.log[-2000:]}")
        text = told.read_text().strip() if told.exists() else ""
        return int(text) if text else 0

    def _stop(self) -> None:
        if hasattr(self, "marionette"):
            self.marionette.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)


@contextmanager
def firefox(program: str, push_server: str) -> Iterator[Marionette]:
    """``push_server``: the websocket of the push service that it registers with."""
    with Firefox(program, push_server) as running:
        yield running.marionette


def _preferences(push_server: str) -> Mapping[str, str | int | bool]:
    return {
        "marionette.port": 0,  # any; it writes the one it took into the profile
        "dom.push.serverURL": push_server,
        "dom.push.testing.allowInsecureServerURL": True,  # ws:// where wss:// is the rule
        "dom.push.connection.enabled": True,  # Marionette's own defaults switch it off
        "dom.push.retryBaseInterval": 200,  # ms
        "alerts.useSystemBackend": False,  # it draws notifications itself: no desktop needed
        "permissions.default.desktop-notification": 1,  # allow
        # Nothing leaves the machine: what is not loopback goes to a proxy that is not there.
        "network.proxy.type": 1,
        "network.proxy.http": "127.0.0.1",
        "network.proxy.http_port": 9,
        "network.proxy.ssl": "127.0.0.1",
        "network.proxy.ssl_port": 9,
        "network.proxy.no_proxies_on": "localhost, 127.0.0.1",
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "toolkit.telemetry.enabled": False,
        "app.update.enabled": False,
        "browser.shell.checkDefaultBrowser": False,
    }

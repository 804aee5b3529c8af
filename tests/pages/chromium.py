"""A headless Chromium, spoken to over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


class Tab:
    """One page. ``complaints`` are console errors, refusals of the content security policy and uncaught exceptions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.complaints: list[str] = []

    async def read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if "id" in message:
                future = self._waiting.pop(message["id"])
                if "error" in message:
                    future.set_exception(RuntimeError(str(message["error"])))
                else:
                    future.set_result(message["result"])
                continue
            self.events.append(message)
            values = message["params"]
            match message["method"]:
                case "Log.entryAdded" if values["entry"]["level"] == "error":
                    self.complaints.append(values["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(values["exceptionDetails"])[:300])
                case "Runtime.consoleAPICalled" if values["type"] == "error":
                    self.complaints.append(json.dumps(values["args"])[:300])

    async def do(self, method: str, **values: Any) -> Any:
        self._number += 1
        future = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": values})
        return await asyncio.wait_for(future, 20)

    async def js(self, code: str) -> Any:
        """The value of an expression; promises are awaited."""
        answer = await self.do("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def go(self, url: str) -> None:
        await self.do("Page.navigate", url=url)
        await self.until(lambda: self.js("document.readyState === 'complete' && location.href !== 'about:blank'"))

    async def until(self, check: Callable[[], Any], seconds: float = 15) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"it did not happen in {seconds} s; complaints: {self.complaints}")

    async def shows(self, code: str) -> Any:
        """Waits until an expression is true."""
        return await self.until(lambda: self.js(code))


@asynccontextmanager
async def tab(width: int = 1280, height: int = 1000) -> AsyncIterator[Tab]:
    assert PATH is not None
    profile = Path(tempfile.mkdtemp(prefix="pages-chromium-"))
    command = [PATH, *_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _port(profile, browser)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                page = next(t for t in await answer.json() if t["type"] == "page")
            async with http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                found = Tab(socket)
                reading = asyncio.create_task(found.read())
                for domain in ("Page", "Runtime", "Log"):
                    await found.do(f"{domain}.enable")
                yield found
                reading.cancel()
    finally:
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _port(profile: Path, browser: subprocess.Popen[bytes]) -> int:
    file = profile / "DevToolsActivePort"
    for _ in range(400):
        if file.is_file() and file.read_text().strip():
            return int(file.read_text().splitlines()[0])
        assert browser.poll() is None, "Chromium ended"
        await asyncio.sleep(0.05)
    raise AssertionError("Chromium did not open its port")

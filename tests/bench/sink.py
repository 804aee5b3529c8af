"""The providers' end: something that answers at once, so that only what is before it is measured.

nginx where it is installed, else ``sink_server``. Neither counts as the product. Both answer

    POST /push/…                        201 with a Location of its own
    POST /twilio/…/Messages.json        201, a message with an id of its own; GET: an empty page
    /watched/…                          the same, but it is noted when each request came
    GET  /_status                       how many requests there were
"""

import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template
from typing import Any, Final

from tests.bench import running
from tests.ports import free_port

_AT: Final = "Thu, 01 Jan 2026 09:00:00 +0000"
#: As Twilio answers a create (https://www.twilio.com/docs/messaging/api/message-resource).
MESSAGE: Final[dict[str, Any]] = {
    "account_sid": "AC" + "5a" * 16, "api_version": "2010-04-01", "body": "", "date_created": _AT,
    "date_sent": None, "date_updated": _AT, "direction": "outbound-api", "error_code": None,
    "error_message": None, "from": None, "messaging_service_sid": "MG" + "5a" * 16, "num_media": "0", "num_segments": "1",
    "price": None, "price_unit": "GBP", "sid": "SM$id", "status": "accepted", "subresource_uris": {}, "to": "", "uri": "",
}  # fmt: skip
EMPTY_PAGE: Final = {
    "end": 0, "first_page_uri": "", "messages": [], "next_page_uri": None, "page": 0, "page_size": 100,
    "previous_page_uri": None, "start": 0, "uri": "",
}  # fmt: skip
LOCATION: Final = "/push/m/$id"

_NGINX: Final = Template("""
daemon off; master_process off; worker_processes 1; pid $folder/nginx.pid; error_log $folder/nginx.log crit;
events { worker_connections 4096; }
http {
  access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 300s; server_tokens off;
  client_body_temp_path $folder/body; proxy_temp_path $folder/proxy; fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
  upstream watched { server 127.0.0.1:$watched; keepalive 64; }
  server {
    listen 127.0.0.1:$port backlog=4096;
    location /push/ { add_header Location "$location" always; return 201; }
    location /twilio/ {
      default_type application/json;
      if ($$request_method = GET) { return 200 '$page'; }
      return 201 '$message';
    }
    location /watched/ { proxy_pass http://watched; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location = /_status { stub_status; }
  }
}
""")


class Sink:
    """A running one. ``origin``: what is sent to. ``watched``: the origin whose requests are noted one by one."""

    def __init__(self, name: str, port: int, watched_port: int) -> None:
        self.name = name
        self.origin = f"http://127.0.0.1:{port}"
        self.watched = f"http://127.0.0.1:{watched_port}"
        self._status = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._asked = 0
        self.pids: dict[str, int] = {}

    def requests(self) -> int:
        """Requests so far, these questions left out. Only differences mean something."""
        self._asked += 1
        self._status.close()  # nginx has closed one that rested for a minute
        self._status.request("GET", "/_status")
        text = self._status.getresponse().read().decode()
        # nginx's stub_status: "server accepts handled requests" and, below, three numbers.
        words = text.split()
        return int(words[words.index("requests") + 3]) - self._asked

    def arrivals(self) -> list[dict[str, Any]]:
        """What the watching server took since the last time: {at (monotonic, s), kind, to, text}. Forgets it."""
        taken: list[dict[str, Any]] = self._watcher("GET", "/_arrivals")
        return taken

    def refuse(self, seconds: float, retry_after: float) -> float:
        """The watching server answers 429 for that long from now. When that began (monotonic, s)."""
        return float(self._watcher("POST", "/_refuse", {"seconds": seconds, "retry_after": retry_after})["at"])

    def _watcher(self, method: str, path: str, body: Any = None) -> Any:
        port = int(self.watched.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def close(self) -> None:
        self._status.close()


@contextmanager
def running_sink(folder: Path) -> Iterator[Sink]:
    """nginx and the watching server behind it; without nginx, that one alone."""
    nginx = _nginx()
    port = free_port()
    watched_port = port if nginx is None else free_port()
    processes = {"watching sink": _server(watched_port, folder)}
    if nginx is not None:
        processes["sink"] = running.start([nginx, "-p", str(folder), "-c", str(_configured(folder, port, watched_port))])
    sink = Sink("the project's" if nginx is None else _version(nginx), port, watched_port)
    sink.pids = {name: process.pid for name, process in processes.items()}
    try:
        running.until(lambda: _answers(sink), 10, "sink")
        yield sink
    finally:
        sink.close()
        for process in processes.values():
            running.stop(process)


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")  # Debian: not on everybody's PATH


def _configured(folder: Path, port: int, watched: int) -> Path:
    """``$$request_id`` is 32 hexadecimal digits, another for each request."""

    def text(value: object) -> str:
        return json.dumps(value, separators=(",", ":")).replace("$id", "$request_id")

    path = folder / "nginx.conf"
    path.write_text(
        _NGINX.substitute(
            folder=folder, port=port, watched=watched, location=LOCATION.replace("$id", "$request_id"),
            page=text(EMPTY_PAGE), message=text(MESSAGE),
        )
    )  # fmt: skip
    return path


def _server(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    return running.start([sys.executable, "-m", "tests.bench.sink_server", str(port)], log=folder / "sink.log")


def _answers(sink: Sink) -> bool:
    with suppress(OSError, http.client.HTTPException):
        sink.requests()
        sink.arrivals()
        return True
    sink._status.close()
    return False


def _version(nginx: str) -> str:
    return (
        subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False)
        .stderr.strip()
        .removeprefix("nginx version: ")
    )

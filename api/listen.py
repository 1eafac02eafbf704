"""A receiver for trying things out: takes whatever arrives and says whether the signatures hold.

It checks them on its own, from the published descriptions, and shares no code with the sender.
"""

import base64
import functools
import hashlib
import hmac
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Literal

import msgspec

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes; a longer body is refused with 413."""

TOLERANCE = 300
"""Seconds by which `webhook-timestamp` may be off, as in the Standard Webhooks libraries."""

Verdict = Literal["valid", "invalid", "expired", "absent", "unchecked"]
"""`expired`: the signature is right, its timestamp too far off. `unchecked`: no secret is known."""


class Arrival(msgspec.Struct, frozen=True):
    """One request as it came in. Header names are in lower case; bytes of `body` that are no UTF-8
    are shown as `\\xff`."""

    time: float  #: seconds since the epoch
    method: str
    path: str
    headers: dict[str, str]
    body: str
    kong_signature: Verdict
    standard_webhooks: Verdict

    def as_text(self) -> str:
        """Several lines for people, the last one empty. Nothing in them steers a terminal."""
        time = datetime.fromtimestamp(self.time, UTC).astimezone()
        verdicts = f"x-kong-signature {self.kong_signature}, standard webhooks "
        lines = [
            f"{time:%H:%M:%S} {self.method} {self.path}",
            *(f"  {name}: {value}" for name, value in self.headers.items()),
            "",
            *(f"  {line}" for line in self.body.splitlines()),
            f"  ({verdicts}{self.standard_webhooks})",
            "",
        ]
        return "\n".join(
            "".join(c if c.isprintable() else ascii(c)[1:-1] for c in x) for x in lines
        )


class Receiver:
    """Where it listens, and what has arrived."""

    def __init__(self, url: str, arrivals: "queue.SimpleQueue[Arrival]") -> None:
        self.url = url
        self._arrivals = arrivals

    def __iter__(self) -> Iterator[Arrival]:
        """Waits for one arrival after the other, without end. Each has been answered before."""
        while True:
            yield self._arrivals.get()


@contextmanager
def listening(
    host: str, port: int, *, status: int = 200, secret: str | None = None
) -> Iterator[Receiver]:
    """Answer every request with `status` for the length of the block. Port 0 takes a free one.

    Raises ValueError for a `secret` that starts with `whsec_` and is not base64 after it, OSError
    when the address cannot be had.
    """
    if secret is not None:
        standard_key(secret)
    arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    with _Server((host, port), functools.partial(_Handler, arrivals, status, secret)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield Receiver(f"http://{host}:{server.server_address[1]}/", arrivals)
        finally:
            server.shutdown()
            thread.join()


def kong_verdict(headers: Mapping[str, str], body: bytes, secret: str) -> Verdict:
    """Whether `x-kong-signature` is `sha256=` or `sha1=` and the hex HMAC of the exact body."""
    given = headers.get("x-kong-signature")
    if given is None:
        return "absent"
    algorithm, _, digest = given.partition("=")
    if algorithm not in ("sha256", "sha1"):
        return "invalid"
    expected = hmac.new(secret.encode(), body, algorithm).hexdigest()
    return "valid" if hmac.compare_digest(digest.encode(), expected.encode()) else "invalid"


def standard_verdict(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> Verdict:
    """Whether one of the `v1` signatures in `webhook-signature` is right and not too old."""
    if "webhook-signature" not in headers:
        return "absent"
    id_, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    content = f"{id_}.{timestamp}.".encode() + body
    digest = hmac.new(standard_key(secret), content, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    given = headers["webhook-signature"].encode().split()
    if not timestamp.isdecimal() or not any(hmac.compare_digest(expected, one) for one in given):
        return "invalid"
    return "valid" if abs(now - int(timestamp)) <= TOLERANCE else "expired"


def standard_key(secret: str) -> bytes:
    """The bytes to sign with: those encoded after `whsec_`, else the text itself as UTF-8.

    Raises ValueError when what follows `whsec_` is not base64.
    """
    encoded = secret.removeprefix("whsec_")
    return secret.encode() if encoded == secret else base64.b64decode(encoded, validate=True)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a kept connection may be idle
    disable_nagle_algorithm = True

    def __init__(
        self,
        arrivals: "queue.SimpleQueue[Arrival]",
        status: int,
        secret: str | None,
        *connection: Any,
    ) -> None:
        self._arrivals = arrivals
        self._status = status
        self._secret = secret
        super().__init__(*connection)  # handles the whole connection before it returns

    def _receive(self) -> None:
        body = self._body()
        if body is not None:
            arrival = self._arrival(body)
            self._answer(self._status)
            self._arrivals.put(arrival)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _receive  # noqa: N815

    def _body(self) -> bytes | None:
        """The whole body; None if it will not be had, which ends the connection."""
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdecimal():
            refusal = 411
        elif int(length) > BODY_LIMIT:
            refusal = 413
        else:
            body = self.rfile.read(int(length))
            self.close_connection |= len(body) < int(length)  # the sender went away
            return None if len(body) < int(length) else body
        self.close_connection = True
        self._answer(refusal)
        return None

    def _arrival(self, body: bytes) -> Arrival:
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            before = headers.get(name.lower())
            headers[name.lower()] = value if before is None else f"{before}, {value}"
        now = time.time()
        kong: Verdict = "unchecked"
        standard: Verdict = "unchecked"
        if self._secret is not None:
            kong = kong_verdict(headers, body, self._secret)
            standard = standard_verdict(headers, body, self._secret, now)
        text = body.decode("utf-8", "backslashreplace")
        return Arrival(now, self.command, self.path, headers, text, kong, standard)

    def _answer(self, status: int) -> None:
        try:
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", "0")
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever iterates over the arrivals decides what is shown."""

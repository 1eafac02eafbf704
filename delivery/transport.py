"""A transport for httpx's API that knows which addresses it may dial, over aiohttp's connector.

httpx's own pool loses slots when requests are cancelled and is slower by an order of magnitude;
aiohttp's connector does neither, and can be asked about each socket before it is opened.
"""

import asyncio
import io
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import aiohttp
import anyio
import anyio.to_thread
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from .address import AddressPolicy
from .gate import Gate, Refused

Lookup = Callable[..., list[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what stands in for a name server."""

KEEP_ALIVE: Final = 4.0
"""Seconds an idle connection is kept: less than the five after which many servers close theirs."""

LOOKUPS: Final = 64
"""Threads for name resolution. Each (host, port) takes one at most, however many wait for it."""

OVERHEAD: Final = 64 * 1024
"""Bytes that head and framing of an answer may have beside twice its `response_cap`."""

INTERIM_ANSWERS: Final = 8
"""Answers of the 1xx kind, and answers nobody asked for, that may wait to be read."""

_SLICE: Final = 4096

LOOKUP_TTL: Final = 10
"""Seconds for which the checked addresses of a name are used again."""


class Blocked(httpx.ConnectError):
    """Our own address policy refuses the address; nothing was sent."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """httpx's transport API over aiohttp's connector and parser, behind the address policy.

    Reads `ssl_verify` and `response_cap` (bytes) from the request's extensions. Raises only
    httpx's transport errors, each with one clear line as its text.
    """

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext, lookup: Lookup) -> None:
        gate = Gate(policy)
        self._tls = {True: tls, False: _unverified()}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                resolver=_Resolver(gate, lookup),
                ttl_dns_cache=LOOKUP_TTL,
                keepalive_timeout=KEEP_ALIVE,
                socket_factory=lambda info: gate.open(_exchange.get().host, info),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            request_class=_Request,
            skip_auto_headers=["accept", "accept-encoding", "user-agent", "content-type"],
            auto_decompress=False,
            trust_env=False,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url, cap = request.url, request.extensions["response_cap"]
        _exchange.set(_Exchange(url.raw_host.decode("ascii"), 2 * cap + OVERHEAD))
        content = await request.aread()
        try:
            answer = await self._session.request(
                request.method,
                _yarl(url),
                headers=[(name.decode(), value.decode()) for name, value in request.headers.raw],
                # aiohttp warns about larger bytes; it sends a stream in pieces.
                data=(content if len(content) <= 1 << 20 else io.BytesIO(content)) or None,
                ssl=self._tls[request.extensions["ssl_verify"]],
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer, cap))

    async def aclose(self) -> None:
        await self._session.close()


class _Request(aiohttp.ClientRequest):
    """A request whose answer is metered from the first byte."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.transport is not None and conn.protocol is not None:
            meter = conn.transport.get_protocol()
            if not isinstance(meter, _Meter):
                meter = _Meter(conn.transport, conn.protocol)
                conn.transport.set_protocol(meter)
            meter.left = _exchange.get().limit
        return await super().send(conn)


class _Meter(asyncio.Protocol):
    """Stands between a connection and aiohttp's protocol, and ends it when too much comes.

    aiohttp parses all it is given at once, and reads interim answers (100 Continue) without end:
    a few receivers that flood us with those would keep the event loop from everybody else.
    """

    def __init__(self, transport: asyncio.Transport, protocol: ResponseHandler) -> None:
        self._transport = transport
        self._protocol = protocol
        self.left = 0  #: bytes that the answer may still have, its head and framing included

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            piece = data[start : start + _SLICE]
            self.left -= len(piece)
            if self.left < 0 or len(self._protocol) > INTERIM_ANSWERS:
                self._protocol.set_exception(aiohttp.ClientPayloadError("it is too long"))
                self._transport.abort()
                return
            self._protocol.data_received(piece)

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class _Body(httpx.AsyncByteStream):
    """An answer's body up to `cap` bytes. Closing it before its own end drops the connection."""

    def __init__(self, answer: aiohttp.ClientResponse, cap: int) -> None:
        self._answer = answer
        self._left = cap

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.read(self._left)
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error
        if not chunk:
            raise StopAsyncIteration
        self._left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        self._answer.close()


class _Exchange(NamedTuple):
    """What the parts below aiohttp must know of the request they work for."""

    host: str  #: as in the URL; a socket is opened knowing only an address
    limit: int  #: bytes that the whole answer may have


_exchange: ContextVar[_Exchange] = ContextVar("exchange")


class _Resolver(AbstractResolver):
    """Names to checked addresses. aiohttp asks for one (host, port) at a time, and remembers."""

    def __init__(self, gate: Gate, lookup: Lookup) -> None:
        self._gate = gate
        self._lookup = lookup
        self._limiter = anyio.CapacityLimiter(LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        lookup = partial(
            self._lookup,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        try:
            found = await anyio.to_thread.run_sync(
                lookup, abandon_on_cancel=True, limiter=self._limiter
            )
        except UnicodeError as error:  # from Python's own IDNA codec
            raise OSError("this is not a host name") from error
        for *_, address in found:
            self._gate.check(host, address[0], port)
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held open."""


_FAILURES: Final[tuple[tuple[type[Exception], type[httpx.TransportError], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, httpx.ConnectError, "cannot resolve {0.host}: {cause}"),
    (
        aiohttp.ClientConnectorCertificateError,
        httpx.ConnectError,
        "the certificate of {0.host} was refused: {cause}",
    ),
    (aiohttp.ClientSSLError, httpx.ConnectError, "TLS with {0.host}:{0.port} failed: {cause}"),
    (
        aiohttp.ClientConnectorError,
        httpx.ConnectError,
        "cannot connect to {0.host}:{0.port}: {cause}",
    ),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol, "the URL is not valid: {0}"),
    (
        aiohttp.ServerDisconnectedError,
        httpx.RemoteProtocolError,
        "the receiver closed the connection without an answer",
    ),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the answer was cut off: {0}"),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError, "the answer is not HTTP: {0.message}"),
    (Exception, httpx.ReadError, "the connection was lost: {0}"),
)
"""The first row that fits says what became of a request."""


def _translated(error: Exception) -> httpx.TransportError:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
    if isinstance(cause, Refused):
        return Blocked(f"blocked by the address policy: {cause}")
    for kind, meaning, text in _FAILURES:
        if isinstance(error, kind):
            line = text.format(error, cause=_cause(cause))
            return meaning(" ".join(line.split())[:300])
    raise AssertionError("unreachable")


def _cause(error: Exception | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror | ssl.SSLError):
        # Event loops put words of their own into strerror.
        return os.strerror(error.errno) if error.errno else str(error)
    return getattr(error, "strerror", None) or str(error)


@lru_cache(maxsize=4096)
def _yarl(url: httpx.URL) -> yarl.URL:
    """The same URL for aiohttp, built from the parts: no second parser may read it differently."""
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return yarl.URL.build(
        scheme=url.scheme,
        authority=url.netloc.decode("ascii"),
        path=path,
        query_string=query,
        encoded=True,
    )


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""A transport for httpx's API that knows which addresses it may dial, over aiohttp's connector.

httpx's own pool loses slots when requests are cancelled and is slower by an order of magnitude;
aiohttp's connector does neither, and can be asked about each socket before it is opened.
"""

import io
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, Final

import aiohttp
import anyio
import anyio.to_thread
import httpx
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict

from .address import AddressPolicy

Lookup = Callable[..., list[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what stands in for a name server."""

KEEP_ALIVE: Final = 4.0
"""Seconds an idle connection is kept: less than the five after which many servers close theirs."""

LOOKUPS: Final = 64
"""Threads for name resolution. Each (host, port) takes one at most, however many wait for it."""

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
        gate = _Gate(policy)
        self._tls = {True: tls, False: _unverified()}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                resolver=_Resolver(gate, lookup),
                ttl_dns_cache=LOOKUP_TTL,
                keepalive_timeout=KEEP_ALIVE,
                socket_factory=gate.open,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=["accept", "accept-encoding", "user-agent", "content-type"],
            auto_decompress=False,
            trust_env=False,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        _dialed.set(url.raw_host.decode("ascii"))
        content = await request.aread()
        try:
            answer = await self._session.request(
                request.method,
                _yarl(url),
                headers=CIMultiDict(
                    [(name.decode(), value.decode()) for name, value in request.headers.raw]
                ),
                # aiohttp warns about larger bytes; it sends a stream in pieces.
                data=(content if len(content) <= 1 << 20 else io.BytesIO(content)) or None,
                ssl=self._tls[request.extensions["ssl_verify"]],
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error
        body = _Body(answer, request.extensions["response_cap"])
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=body)

    async def aclose(self) -> None:
        await self._session.close()


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


_dialed: ContextVar[str] = ContextVar("dialed")
"""The host of the URL that the current task connects to: a socket is opened knowing only an IP."""


class _Refused(OSError):
    """Raised where aiohttp expects an OSError, so that it gives the connection up."""


class _Gate:
    """Asks the policy about every address on its way to a socket."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._own_ports = {port for _, port in policy.own}

    def check(self, host: str, address: str, port: int) -> None:
        local = port in self._own_ports and _is_local(address)
        if reason := self._policy.refusal(host, address, port=port, local=local):
            raise _Refused(reason)

    def open(self, info: tuple[Any, ...]) -> socket.socket:
        """The last gate before the network, and the only one for addresses written in a URL."""
        family, kind, protocol, _, address = info
        self.check(_dialed.get(), address[0], address[1])
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Names to checked addresses. aiohttp asks for one (host, port) at a time, and remembers."""

    def __init__(self, gate: _Gate, lookup: Lookup) -> None:
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
    if isinstance(cause, _Refused):
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


def _is_local(address: str) -> bool:
    """Whether the address is one of this machine's: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True

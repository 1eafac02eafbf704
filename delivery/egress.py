"""HTTP out: the only way from here to a receiver.

What `Egress.send` promises:

* one deadline for everything: name resolution, connecting, TLS, sending and reading the answer;
* only addresses that the policy allows are dialed: a name is resolved once, every address of the
  answer is checked, and one of those is dialed; literal addresses pass the same gate;
* no redirects, cookies, proxies or environment; no decompression; at most `response_cap` bytes of
  an answer are read and a connection with more to say is dropped;
* requests never queue for a connection: the caller bounds how many are under way.

Not promised: that the receiver did not act on a request that failed here.
"""

import asyncio
import base64
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Self

import httpx

from .address import AddressPolicy
from .outcome import Outcome, Response
from .retry import parse_retry_after, retryable
from .transport import AiohttpTransport, Blocked, Lookup


class Egress:
    """Sends requests between `async with` and its end. Cancelling a request leaks nothing."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        timeout: float = 10.0,
        response_cap: int = 20_000,
        user_agent: str = "hooktape",
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = socket.getaddrinfo,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`timeout` in seconds, `response_cap` in bytes. `tls` verifies unless a hook opts out."""
        self._policy = policy
        self._timeout = timeout
        self._response_cap = response_cap
        self._user_agent = user_agent
        self._tls = tls or ssl.create_default_context()
        self._lookup = lookup
        self._clock = clock

    async def __aenter__(self) -> Self:
        self.transport = AiohttpTransport(self._policy, self._tls, self._lookup)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.transport.aclose()

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        *,
        ssl_verify: bool = True,
    ) -> Outcome:
        """One exchange. Raises nothing but cancellation; success is a complete 2xx answer."""
        try:
            request = self.request(method, url, headers, content, ssl_verify=ssl_verify)
            # Costs a third of what anyio.fail_after does, once per delivery.
            async with asyncio.timeout(self._timeout):
                return await self._exchange(request)
        except TimeoutError:
            return Outcome(ok=False, reason=f"no complete answer within {self._timeout:g} s")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            final = isinstance(error, Blocked | httpx.UnsupportedProtocol | httpx.InvalidURL)
            return Outcome(
                ok=False,
                reason=str(error),
                retryable=not final,
                blocked=isinstance(error, Blocked),
            )

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        *,
        ssl_verify: bool = True,
    ) -> httpx.Request:
        """The request that `send` makes of its arguments. Raises httpx's errors for a bad URL."""
        target, authorization = _target(url)
        fields = {
            "user-agent": self._user_agent,
            "accept": "*/*",
            **authorization,
            **{name.lower(): value for name, value in headers.items()},
            "accept-encoding": "identity",
        }
        return httpx.Request(
            method,
            target,
            headers=[(name.encode(), value.encode()) for name, value in fields.items()],
            # With `content` httpx works out Host and Content-Length, which the transport does
            # anyway, and takes seven times as long.
            stream=httpx.ByteStream(content),
            extensions={"ssl_verify": ssl_verify, "response_cap": self._response_cap},
        )

    async def _exchange(self, request: httpx.Request) -> Outcome:
        answer = await self.transport.handle_async_request(request)
        try:
            # Raw: what calls itself gzip may grow a thousandfold.
            body = b"".join([chunk async for chunk in answer.aiter_raw()])
        finally:
            await answer.aclose()
        return self._judge(answer, body)

    def _judge(self, answer: httpx.Response, body: bytes) -> Outcome:
        status = answer.status_code
        response = Response(status, _plain(answer.headers), body.decode(errors="replace"))
        if 200 <= status < 300:
            return Outcome(ok=True, status=status, response=response)
        redirect = "; redirects are not followed" if answer.has_redirect_location else ""
        return Outcome(
            ok=False,
            reason=f"the receiver answered {status}{redirect}",
            status=status,
            retryable=retryable(status),
            gone=status == httpx.codes.GONE,
            retry_after=parse_retry_after(answer.headers.get("retry-after"), self._clock()),
            response=response,
        )


@lru_cache(maxsize=4096)
def _target(url: str) -> tuple[httpx.URL, dict[str, str]]:
    """The URL without its user name and password, and the header that carries those instead."""
    target = httpx.URL(url)
    if target.scheme not in ("http", "https") or not target.raw_host:
        raise httpx.UnsupportedProtocol("the URL must begin with http:// or https:// and a host")
    if target.port is not None and not 0 < target.port < 65536:
        raise httpx.UnsupportedProtocol(f"the URL has no valid port: {target.port}")
    if not target.userinfo:
        return target, {}
    credentials = base64.b64encode(f"{target.username}:{target.password}".encode()).decode()
    return target.copy_with(userinfo=b""), {"authorization": f"Basic {credentials}"}


def _plain(headers: httpx.Headers) -> dict[str, str]:
    plain: dict[str, str] = {}
    for raw_name, raw_value in headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        plain[name] = f"{plain[name]}, {value}" if name in plain else value
    return plain

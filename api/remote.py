"""What commands ask of a running service."""

import http.client
from typing import Any
from urllib.parse import urlsplit

import msgspec

_TIMEOUT = 600.0  #: seconds without a sign of life; planning a compaction reads much


class Unanswered(Exception):
    """No answer came, or the service is not available: in one line, why."""


class Refusal(Exception):
    """The service's own sentence."""


def connection(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not open yet, and the part of the URL that goes before each path.

    It goes straight to the service: no proxy from the environment, no redirects. Raises ValueError
    for a URL that is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http or https URL: {url}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=timeout), parts.path.rstrip("/")


def credentials(token: str | None) -> dict[str, str]:
    """The header that says who asks. Raises ValueError for a token that no header can hold."""
    if token is not None and not (token.isprintable() and token.isascii()):
        raise ValueError("the token must be printable ASCII")
    return {} if token is None else {"Kong-Admin-Token": token}


class Service(msgspec.Struct, frozen=True):
    """A running service, and who asks it where RBAC is enforced."""

    url: str
    token: str | None = None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answered. Raises Unanswered, Refusal, and what the functions above raise."""
        opened, prefix = connection(self.url, _TIMEOUT)
        sent = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            opened.request(method, prefix + path, sent, headers | credentials(self.token))
            answer = opened.getresponse()
            found = msgspec.json.decode(answer.read())
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise Unanswered(f"no answer from {self.url}: {error}") from error
        finally:
            opened.close()
        if 200 <= answer.status < 300:
            return found
        text = f"the service answered {answer.status}: {found.get('message')}"
        raise Unanswered(text) if answer.status in (502, 503, 504) else Refusal(text)

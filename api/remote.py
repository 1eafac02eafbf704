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


class Service(msgspec.Struct, frozen=True):
    """A running service, and who asks it where RBAC is enforced."""

    url: str
    token: str | None = None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answered. Goes straight to the service: no proxy from the environment.

        Raises Unanswered and Refusal, and ValueError for a URL that is none.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {self.url}")
        tls = parts.scheme == "https"
        kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)
        try:
            sent = None if body is None else msgspec.json.encode(body)
            path = parts.path.rstrip("/") + path
            connection.request(method, path, sent, self._headers(body is not None))
            answer = connection.getresponse()
            found = msgspec.json.decode(answer.read())
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise Unanswered(f"no answer from {self.url}: {error}") from error
        finally:
            connection.close()
        if 200 <= answer.status < 300:
            return found
        text = f"the service answered {answer.status}: {found.get('message')}"
        raise Unanswered(text) if answer.status in (502, 503, 504) else Refusal(text)

    def _headers(self, has_body: bool) -> dict[str, str]:
        headers = {"Content-Type": "application/json"} if has_body else {}
        return headers if self.token is None else {**headers, "Kong-Admin-Token": self.token}

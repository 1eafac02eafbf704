"""Send events to a running service, from the command line or a script."""

import http.client
import uuid
from typing import NamedTuple

import msgspec

from api import remote

TIMEOUT = 30.0
"""Seconds without a sign of life after which the service counts as unreachable."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event as `POST /events` takes it. `data` is sent as it was written."""

    source: str
    event: str
    data: msgspec.Raw
    id: str | None = None


class Answer(NamedTuple):
    """What the service said. Only a 2xx `status` means that the events are on disk."""

    status: int
    body: str


class Unreachable(Exception):
    """No answer came. With a `key` the events may be stored or not: send them again with that key.

    Without one nothing was sent.
    """

    def __init__(self, url: str, error: Exception, key: str | None = None) -> None:
        again = f"; to be sure, send the same again with the idempotency key {key}" if key else ""
        super().__init__(f"no answer from {url}: {error}{again}")
        self.key = key


def one(source: str, event: str, data: bytes, id: str | None = None) -> bytes:
    """The body for a single event. Raises ValueError unless `data` is a JSON object."""
    try:
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise ValueError(f"the data must be a JSON object: {error}") from error
    return msgspec.json.encode(Event(source, event, msgspec.Raw(data), id))


def send(
    url: str,
    body: bytes,
    *,
    lines: bool = False,
    key: str | None = None,
    token: str | None = None,
) -> Answer:
    """Post `body` to `url` + `/events`; `lines` says that it is NDJSON.

    Sends an idempotency key of its own unless one is given, so that a repetition is always
    possible. Raises ValueError for a URL that is none or a token that no header can hold,
    Unreachable when no answer came.
    """
    connection, prefix = remote.connection(url, TIMEOUT)
    headers = {
        "Content-Type": "application/x-ndjson" if lines else "application/json",
        "Idempotency-Key": key or str(uuid.uuid4()),
        **remote.credentials(token),
    }
    try:
        connection.connect()
    except OSError as error:
        raise Unreachable(url, error) from error
    try:
        connection.request("POST", prefix + "/events", body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(url, error, headers["Idempotency-Key"]) from error
    finally:
        connection.close()

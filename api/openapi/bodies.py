"""Bodies that are no arguments of an entity: what is emitted, and what a gateway reports."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from api.emission import Emission


class CloudEventEnvelope(msgspec.Struct):
    """CloudEvents 1.0 in structured form; `data` or `data_base64`, and extensions beside them."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1, max_length=255)]
    source: Annotated[str, Meta(min_length=1)]
    type: Annotated[str, Meta(min_length=1)]
    datacontenttype: str | None = None
    dataschema: str | None = None
    subject: str | None = None
    time: str | None = None
    data: Any = None
    data_base64: str | None = None


class GatewayRecord(msgspec.Struct):
    """What Kong's log serializer writes about a request; `api.kong_log` says what is read of it.

    Anything else may be there too. An empty table of Lua is an object or an array.
    """

    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    client_ip: str | None = None
    tries: list[dict[str, Any]] | dict[str, Any] | None = None
    upstream_status: Any = None
    consumer: dict[str, Any] | None = None
    service: dict[str, Any] | None = None
    route: dict[str, Any] | None = None


_LINES = Annotated[str, Meta(description="One event per line, each as in application/json.")]

EMISSIONS: Final[Mapping[str, Any]] = {
    "application/json": Emission | list[Emission],
    "application/x-ndjson": _LINES,
    "application/jsonl": _LINES,
    "application/cloudevents+json": CloudEventEnvelope,
    "application/cloudevents-batch+json": list[CloudEventEnvelope],
}
"""What `POST /events` takes, by content type; headers like `ce-id` make any body a CloudEvent."""

KONG_LOG: Final[Mapping[str, Any]] = {"application/json": GatewayRecord | list[GatewayRecord]}
"""What Kong's http-log plugin sends: one record, or those of a batch."""

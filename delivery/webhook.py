"""The `webhook` handler: the payload as JSON or the event as a CloudEvent, posted and signed."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from projections.hooks import WebhookConfig, WebhookCustomConfig

from . import signing
from .cloudevents import FORMATS, Message, is_part
from .egress import Egress
from .outcome import Delivery, Outcome, Outgoing

_TRANSPORT = """
    accept-encoding connection content-length expect host keep-alive proxy-authenticate
    proxy-authorization proxy-connection te trailer transfer-encoding upgrade
"""
_IDENTITY = "webhook-id webhook-signature webhook-timestamp x-kong-signature"
PROTECTED_HEADERS: Final = frozenset(f"{_TRANSPORT} {_IDENTITY}".split())
"""What a hook cannot set: the transport decides it, or receivers trust us by it. In lower case."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


_encode = msgspec.json.Encoder().encode


class Webhook:
    """Builds and sends the request of one delivery. Raises nothing but cancellation."""

    def __init__(self, egress: Egress, clock: Callable[[], float] = time.time) -> None:
        self._egress = egress
        self._clock = clock

    async def __call__(self, delivery: Delivery) -> Outcome:
        config = msgspec.convert(delivery.hook.config, WebhookConfig)
        now_s = self._clock()
        request = Outgoing("POST", config.url, *_message(delivery, config, now_s))
        return await send(self._egress, request, delivery, config, now_s)


def _message(delivery: Delivery, config: WebhookConfig, now_s: float) -> Message:
    headers = lower(config.headers)
    if config.format == "kong":
        return {"content-type": "application/json", **headers}, _encode(payload(delivery))
    own, body = FORMATS[config.format](delivery, now_s)
    beside = {name: value for name, value in headers.items() if not is_part(name)}
    return beside | own, body


def payload(delivery: Delivery) -> dict[str, Any]:
    """What a receiver or a template gets to see: the data, with `source` and `event` beside it."""
    return {**delivery.data, "source": delivery.source, "event": delivery.event}


async def send(
    egress: Egress,
    request: Outgoing,
    delivery: Delivery,
    config: WebhookConfig | WebhookCustomConfig,
    now_s: float,
) -> Outcome:
    """Signs the request and sends it, or only shows it in a dry run.

    What cannot be sent is an outcome that is not retried.
    """
    problems = header_problems(request.headers) | secret_problems(config.secret)
    if problems:
        path, problem = next(iter(problems.items()))
        return Outcome(ok=False, reason=f"{path}: {problem}", retryable=False)
    signed = signing.signed_headers(
        delivery.id,
        request.body,
        now_s=now_s,
        secret=config.secret,
        algorithm=config.signature_algorithm,
    )
    request = msgspec.structs.replace(request, headers=request.headers | signed)
    if delivery.dry_run:
        return Outcome(ok=True, request=request)
    outcome = await egress.send(
        request.method, request.url, request.headers, request.body, ssl_verify=config.ssl_verify
    )
    return msgspec.structs.replace(outcome, request=request)


def validate(config: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a configuration whose types are right, by the field's dotted path."""
    headers = config.get("headers")
    return (
        _clashes(headers, config.get("format", "kong"))
        | header_problems(headers)
        | secret_problems(config.get("secret"))
    )


def _clashes(headers: Mapping[str, str] | None, form: str) -> dict[str, str]:
    """The headers that would change a CloudEvent; they are not sent, so nobody should want them."""
    problem = "this header is part of the CloudEvent"
    names = [name for name in headers or () if form != "kong" and is_part(name.lower())]
    return {f"config.headers.{name}": problem for name in names}


def header_problems(headers: Mapping[str, str] | None) -> dict[str, str]:
    """What cannot be sent as a header, by its path below the hook."""
    problems = {}
    for name, value in (headers or {}).items():
        if not _NAME.fullmatch(name):
            problems[f"config.headers.{name}"] = "not a header name"
        elif name.lower() in PROTECTED_HEADERS:
            problems[f"config.headers.{name}"] = "this header cannot be set by a hook"
        elif _CONTROL.search(value):
            problems[f"config.headers.{name}"] = "control characters cannot be sent in a header"
    return problems


def secret_problems(secret: str | None) -> dict[str, str]:
    """What makes a secret useless for signing, by its path below the hook."""
    try:
        signing.key(secret or "")
    except ValueError as error:
        return {"config.secret": str(error)}
    return {}


def lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers with their names in lower case; the last of several spellings counts."""
    return {name.lower(): value for name, value in (headers or {}).items()}

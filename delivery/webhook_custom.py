"""The `webhook-custom` handler: a request of the user's own making, from templates.

Where Kong's behaviour is not public: `body` wins over `payload`; a payload is form-encoded when the
content type says so and JSON otherwise; GET, HEAD and DELETE carry it in the query. In a form or a
query, what is nested is spelled as Kong's own forms are: `a.b=1&list[1]=2`.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from projections.hooks import WebhookCustomConfig

from .egress import Egress
from .outcome import Delivery, Outcome
from .templates import Budget, TemplateError, compile_template, walk
from .webhook import Outgoing, header_problems, lower, payload, secret_problems, send

MAX_TEMPLATES: Final = 64 * 1024
"""Characters of all templates of one hook together: bounds the work of a delivery."""

_FORM: Final = "application/x-www-form-urlencoded"
_IN_QUERY: Final = frozenset({"GET", "HEAD", "DELETE"})
_LINE_BREAKS: Final = re.compile(r"[\r\n]+")


class WebhookCustom:
    """Renders, builds and sends the request of one delivery. Raises nothing but cancellation."""

    def __init__(self, egress: Egress, clock: Callable[[], float] = time.time) -> None:
        self._egress = egress
        self._clock = clock

    async def __call__(self, delivery: Delivery) -> Outcome:
        config = msgspec.convert(delivery.hook.config, WebhookCustomConfig)
        try:
            request = preview(config, payload(delivery))
        except TemplateError as error:
            return Outcome(ok=False, reason=f"template: {error}", retryable=False)
        return await send(self._egress, request, delivery, config, self._clock())


def preview(config: WebhookCustomConfig, context: dict[str, Any]) -> Outgoing:
    """The request that a hook makes of an event. Pure; raises TemplateError, or is complete."""
    budget = Budget()
    headers = lower(config.headers)
    if config.headers_format:
        # A value from an event must not begin a header of its own.
        headers = {
            name: _LINE_BREAKS.sub("", compile_template(value).render(context, budget))
            for name, value in headers.items()
        }
    if config.body is not None:
        body = config.body
        if config.body_format:
            body = compile_template(body).render(context, budget)
        return Outgoing(config.method, config.url, headers, body.encode())
    if config.payload is None:
        return Outgoing(config.method, config.url, headers, b"")
    content = walk(config.payload, context, budget) if config.payload_format else config.payload
    if config.method in _IN_QUERY:
        return Outgoing(config.method, _with_query(config.url, content), headers, b"")
    if headers.setdefault("content-type", "application/json").lower().startswith(_FORM):
        return Outgoing(config.method, config.url, headers, _form(content).encode())
    return Outgoing(config.method, config.url, headers, msgspec.json.encode(content))


def validate(config: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a configuration whose types are right, by the field's dotted path."""
    problems = header_problems(config.get("headers")) | secret_problems(config.get("secret"))
    left = MAX_TEMPLATES
    for path, source in _templates(config):
        left -= len(source)
        if left < 0:
            limit = f"with this, the templates have more than {MAX_TEMPLATES} characters"
            return problems | {path: limit}
        try:
            compile_template(source)
        except TemplateError as error:
            problems[path] = str(error)
    return problems


def _templates(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, default in (("body", True), ("payload", True), ("headers", False)):
        if config.get(f"{field}_format", default):
            yield from _strings(f"config.{field}", config.get(field))


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string in a JSON-like value with its path: lists from 1, dots in keys as %2E."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            step = key.replace("%", "%25").replace(".", "%2E")
            yield from _strings(f"{path}.{step}", item)
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _strings(f"{path}.{number}", item)


def _with_query(url: str, content: dict[str, Any]) -> str:
    address, hash_, fragment = url.partition("#")
    query = _form(content)
    joint = ("&" if "?" in address else "?") if query else ""
    return f"{address}{joint}{query}{hash_}{fragment}"


def _form(content: dict[str, Any]) -> str:
    return urlencode([pair for key, value in content.items() for pair in _pairs(key, value)])


def _pairs(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _pairs(f"{key}.{name}", item)
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _pairs(f"{key}[{number}]", item)
    elif isinstance(value, str):
        yield key, value
    elif value is not None:
        yield key, msgspec.json.encode(value).decode()

"""The `webhook-custom` handler: a request of the user's own making, from templates.

Where Kong's behaviour is not public: `body` wins over `payload`; a payload is form-encoded when the
content type says so and JSON otherwise; GET, HEAD and DELETE carry it in the query. In a form or a
query, what is nested is spelled as Kong's own forms are: `a.b=1&list[1]=2`.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from projections.hooks import WebhookCustomConfig

from .egress import Egress
from .outcome import Delivery, Outcome, Outgoing
from .rendering import Renderer, RenderingFailed
from .webhook import header_problems, lower, payload, secret_problems, send

_logger = logging.getLogger("hooktape.delivery.webhook_custom")

MAX_TEMPLATES: Final = 64 * 1024
"""Characters of all templates of one hook together: bounds the work of a delivery."""

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = re.compile(r"application/([\w.-]+\+)?json\b", re.IGNORECASE)
_IN_QUERY: Final = frozenset({"GET", "HEAD", "DELETE"})
_LINE_BREAKS: Final = re.compile(r"[\r\n]+")


class WebhookCustom:
    """Renders, builds and sends the request of one delivery. Raises nothing but cancellation."""

    def __init__(
        self, egress: Egress, renderer: Renderer, clock: Callable[[], float] = time.time
    ) -> None:
        self._egress = egress
        self._renderer = renderer
        self._clock = clock

    async def __call__(self, delivery: Delivery) -> Outcome:
        hook = delivery.hook
        config = msgspec.convert(hook.config, WebhookCustomConfig)
        templates = dict(_templates(_sent(hook.config)))
        try:
            texts = await self._renderer.render(
                hook, config.template_engine, templates, payload(delivery)
            )
        except RenderingFailed as failed:
            return failed.outcome
        request = assemble(config, texts)
        if "config.body" in texts and not _is_what_it_says(request):
            _logger.warning("hook %s: the body is not the JSON that its headers promise", hook.id)
        return await send(self._egress, request, delivery, config, self._clock())

    async def validate(self, workspace: str, config: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a configuration whose types are right, by the field's dotted path.

        Raises JailUnavailable when a template is more than plain and cannot be compiled now.
        """
        problems = header_problems(config.get("headers")) | secret_problems(config.get("secret"))
        templates = {}
        left = MAX_TEMPLATES
        for path, source in _templates(config):
            left -= len(source)
            if left < 0:
                limit = f"with this, the templates have more than {MAX_TEMPLATES} characters"
                return problems | {path: limit}
            templates[path] = source
        engine = config.get("template_engine", "resty")
        return problems | await self._renderer.check(workspace, engine, templates)


def assemble(config: WebhookCustomConfig, texts: Mapping[str, str]) -> Outgoing:
    """The request of a hook whose templates came to `texts`, by their paths. Pure."""
    headers = {
        # A value from an event must not begin a header of its own.
        name: _LINE_BREAKS.sub("", value) if config.headers_format else value
        for name, value in lower(_filled("config.headers", config.headers, texts)).items()
    }
    if config.body is not None:
        body = texts.get("config.body", config.body)
        return Outgoing(config.method, config.url, headers, body.encode())
    if config.payload is None:
        return Outgoing(config.method, config.url, headers, b"")
    content = _filled("config.payload", config.payload, texts)
    if config.method in _IN_QUERY:
        return Outgoing(config.method, _with_query(config.url, content), headers, b"")
    if headers.setdefault("content-type", "application/json").lower().startswith(_FORM):
        return Outgoing(config.method, config.url, headers, _form(content).encode())
    return Outgoing(config.method, config.url, headers, msgspec.json.encode(content))


def _sent(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that makes the request: `body` wins over `payload`."""
    return config if config.get("body") is None else {**config, "payload": None}


def _is_what_it_says(request: Outgoing) -> bool:
    if not _JSON.match(request.headers.get("content-type", "")):
        return True
    try:
        msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _templates(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, default in (("body", True), ("payload", True), ("headers", False)):
        if config.get(f"{field}_format", default):
            yield from _strings(f"config.{field}", config.get(field))


def _filled(path: str, value: Any, texts: Mapping[str, str]) -> Any:
    """A copy of a JSON-like value with its strings replaced by the texts at their paths."""
    if isinstance(value, str):
        return texts.get(path, value)
    if isinstance(value, dict):
        return {key: _filled(_below(path, key), item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(f"{path}.{number}", item, texts) for number, item in enumerate(value, 1)]
    return value


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string in a JSON-like value with its path: lists from 1, dots in keys as %2E."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(_below(path, key), item)
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _strings(f"{path}.{number}", item)


def _below(path: str, key: str) -> str:
    return f"{path}.{key.replace('%', '%25').replace('.', '%2E')}"


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

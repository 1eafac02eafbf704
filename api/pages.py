"""Kong's pages: `offset` is where the next one starts, `next` the path that leads there."""

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec
from starlette.requests import Request

from api.responses import InvalidOffset

Key = TypeVar("Key", bound=tuple[str, ...])


def after(http: Request, kind: type[Key], first: Key) -> Key:
    """The key after which a page starts; `first` without an offset. Raises InvalidOffset."""
    given = http.query_params.get("offset")
    if given is None:
        return first
    try:
        raw = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidOffset(given, "bad base64 encoding") from error
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidOffset(given, "bad json encoding") from error


def following(http: Request, last: Sequence[str]) -> dict[str, str]:
    """What an answer says about the page after the one whose last key is `last`.

    `next` has Kong's order of parameters, and no host.
    """
    offset = base64.b64encode(msgspec.json.encode(last)).decode()
    path = f"{http.state.prefix}{quote(http.scope['path'])}?offset={quote(offset, safe='')}"
    for name in ("tags", "size"):
        if value := http.query_params.get(name):
            path += f"&{name}={quote(value, safe='')}"
    return {"offset": offset, "next": path}

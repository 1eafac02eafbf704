"""The data of a CloudEvent as data of ours, which is always a JSON object. Pure.

A JSON object is taken as it is. Anything else becomes the only member of an object: `data` for
other JSON and for text, `data_base64` for bytes. No data is an empty object. The second part of
each answer says which it was (see `eventstore.events.CloudEvent`).
"""

import base64
import binascii
import re
from typing import Any, Final, Literal

import msgspec

from api.bodies import DECODE_ERRORS, MAX_DEPTH, TOO_DEEP, deeper, media_type

Wrapped = Literal["", "data", "data_base64", "none"]
Held = tuple[dict[str, Any], Wrapped]

_JSON: Final = re.compile(r".+/(json|.+\+json)")
_TEXT: Final = re.compile(r"text/.+|.+/(xml|.+\+xml|x-www-form-urlencoded)")
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([\w-]+)", re.IGNORECASE)
_UTF8: Final = ("utf-8", "utf8", "us-ascii")

_decode = msgspec.json.Decoder().decode


class Unreadable(Exception):
    """Data that is not what its content type says, with the reason."""


def content(value: Any) -> Held:
    """A JSON value; None stands for no data. Raises Unreadable for what is nested too deep."""
    if deeper(value, MAX_DEPTH):
        raise Unreadable(TOO_DEEP)
    if isinstance(value, dict):
        return value, ""
    return ({}, "none") if value is None else ({"data": value}, "data")


def of_base64(encoded: object, content_type: str) -> Held:
    """Bytes in base64, as JSON holds them. Raises Unreadable."""
    if not isinstance(encoded, str):
        raise Unreadable("expected a string")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable("expected base64") from error
    return of_bytes(raw, content_type)


def of_bytes(raw: bytes, content_type: str) -> Held:
    """Bytes of a content type, "" for an unknown one: JSON if it may be, then text, then bytes.

    Raises Unreadable for JSON that is none.
    """
    kind = media_type(content_type)
    if not raw:
        return {}, "none"
    if not kind or _JSON.fullmatch(kind):
        try:
            value = _decode(raw)
        except DECODE_ERRORS as error:
            if kind:
                raise Unreadable("Cannot parse JSON body") from error
        else:
            return content(value) if value is not None else ({"data": None}, "data")
    if _TEXT.fullmatch(kind) and _is_utf8(content_type):
        try:
            return {"data": raw.decode()}, "data"
        except UnicodeDecodeError:
            pass  # then it is not for us to read
    return {"data_base64": base64.b64encode(raw).decode()}, "data_base64"


def _is_utf8(content_type: str) -> bool:
    charset = _CHARSET.search(content_type)
    return charset is None or charset[1].lower() in _UTF8

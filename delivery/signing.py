"""The headers that let a receiver tell a delivery from a forgery, and a repeat from a new one.

`x-kong-signature` is Kong's: an HMAC of the exact body. The `webhook-*` headers follow Standard
Webhooks (https://www.standardwebhooks.com) and also cover the delivery's id and time.
"""

import base64
import binascii
import hmac
from functools import lru_cache

from projections.hooks import SignatureAlgorithm

PREFIX = "whsec_"
"""Marks a secret that is a base64 key, as Standard Webhooks writes them."""


def signed_headers(
    delivery_id: str,
    body: bytes,
    *,
    now_s: float,
    secret: str | None,
    algorithm: SignatureAlgorithm = "sha256",
) -> dict[str, str]:
    """The headers of one attempt: id and time always, signatures with a secret.

    Raises ValueError for a secret that `key` refuses.
    """
    timestamp = str(int(now_s))
    headers = {"webhook-id": delivery_id, "webhook-timestamp": timestamp}
    if secret:
        signed = b"%s.%s.%s" % (delivery_id.encode(), timestamp.encode(), body)
        digest = _mac(key(secret), signed, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        headers["x-kong-signature"] = kong_signature(secret, body, algorithm)
    return headers


def kong_signature(secret: str, body: bytes, algorithm: SignatureAlgorithm = "sha256") -> str:
    """The value of `x-kong-signature`. As in Kong the key is the secret's text, prefix and all."""
    return f"{algorithm}={_mac(secret.encode(), body, algorithm).hex()}"


def _mac(key: bytes, message: bytes, algorithm: SignatureAlgorithm) -> bytes:
    # hmac.digest lets go of the interpreter's lock for every call, however short the message:
    # beside a busy thread that took five times as long as the computation.
    mac = _keyed(key, algorithm).copy()
    mac.update(message)
    return mac.digest()


@lru_cache(maxsize=1024)
def _keyed(key: bytes, algorithm: SignatureAlgorithm) -> hmac.HMAC:
    return hmac.new(key, digestmod=algorithm)


def key(secret: str) -> bytes:
    """The Standard Webhooks key: base64 after `whsec_`, otherwise the text itself as UTF-8.

    Raises ValueError when what follows the prefix is not base64.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows {PREFIX} must be base64") from error

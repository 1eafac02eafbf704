"""Signatures, against published vectors and the reference implementation of Standard Webhooks."""

import base64
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis.strategies import binary, text
from standardwebhooks import Webhook, WebhookVerificationError

from delivery.signing import key, kong_signature, signed_headers

NOW = 1_700_000_000.75
BODY = b'{"event":"ping"}'


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        ("sha1", "sha1=73a2ad9339361271db02ce089327f912cbc4d3f2"),
        (
            "sha256",
            "sha256=4f4bb3a54e99c4a20e243485229f9b08c66e09104ba6f79c23ce647242a4ce84",
        ),
    ],
)
def test_kong_signature_is_the_hmac_of_the_exact_body(algorithm: str, value: str) -> None:
    """The vectors of the reference, in both algorithms."""
    assert kong_signature("secret", BODY, algorithm) == value  # type: ignore[arg-type]


def test_without_a_secret_only_the_identity_is_sent() -> None:
    """Receivers can drop repeats of unsigned deliveries, too."""
    headers = signed_headers("d-1", BODY, now_s=NOW, secret=None)

    assert headers == {"webhook-id": "d-1", "webhook-timestamp": "1700000000"}


def test_the_algorithm_is_the_hook_s_choice() -> None:
    """Receivers written for older Kong versions get SHA-1 beside the standard signature."""
    headers = signed_headers("d-1", BODY, now_s=NOW, secret="secret", algorithm="sha1")

    assert headers["x-kong-signature"].startswith("sha1=")
    assert headers["webhook-signature"].startswith("v1,")


@given(key_bytes=binary(min_size=1, max_size=64), body=text().map(str.encode))
def test_the_reference_implementation_accepts_our_signature(key_bytes: bytes, body: bytes) -> None:
    """A `whsec_` secret verifies with the library that receivers use; another body does not."""
    secret = f"whsec_{base64.b64encode(key_bytes).decode()}"
    headers = signed_headers("d-1", body, now_s=NOW, secret=secret)
    verifier = Webhook(secret)

    assert headers["webhook-signature"] == verifier.sign("d-1", _moment(), body.decode())
    assert headers["webhook-signature"] != verifier.sign("d-1", _moment(), body.decode() + "x")


def test_a_receiver_verifies_a_fresh_delivery() -> None:
    """The library's own verification passes, and fails for a changed body."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    headers = signed_headers("d-1", BODY, now_s=time.time(), secret=secret)
    verifier = Webhook(secret)

    verifier.verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        verifier.verify(BODY + b" ", headers)


def test_a_plain_secret_is_its_own_key() -> None:
    """Kong's secrets are any text; it signs as UTF-8."""
    headers = signed_headers("d-1", BODY, now_s=NOW, secret="żółw")

    assert key("żółw") == "żółw".encode()
    assert headers["webhook-signature"] == Webhook("żółw".encode()).sign(
        "d-1", _moment(), BODY.decode()
    )


def test_the_prefix_does_not_change_kong_s_signature() -> None:
    """`x-kong-signature` is keyed by the secret as it was entered."""
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    headers = signed_headers("d-1", BODY, now_s=NOW, secret=secret)

    assert headers["x-kong-signature"] == kong_signature(secret, BODY)


@pytest.mark.parametrize("secret", ["whsec_not base64!", "whsec_abc"])
def test_a_prefix_without_base64_is_refused(secret: str) -> None:
    """Signing with a key that no receiver can derive would be worse than an error."""
    with pytest.raises(ValueError, match="must be base64"):
        key(secret)


def _moment() -> datetime:
    return datetime.fromtimestamp(int(NOW), tz=UTC)

"""What an entity gets that its sender left out: its id, its times, random texts. Pure functions."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec

from projections.fields import Record


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """When a request came, in seconds, and 16 random bytes of its own.

    Everything that is made up for the request comes from these bytes, so that a decision that is
    taken again comes to the same.
    """

    now: float
    seed: bytes

    def identity(self, purpose: str = "") -> str:
        """A random UUID, another one for every purpose."""
        return str(UUID(bytes=self._bytes(f"id\0{purpose}"), version=4))

    def text(self, purpose: str) -> str:
        """32 random characters that are hard to guess."""
        return self._bytes(f"text\0{purpose}").hex()

    def _bytes(self, purpose: str) -> bytes:
        return blake2b(purpose.encode(), key=self.seed, digest_size=16).digest()


def stamped(record: Record, args: Mapping[str, Any], origin: Origin, subject: str = "") -> Any:
    """`args` with all that can be made up. `updated_at` is never taken from outside.

    `subject` tells the entities of one request apart.
    """
    made: dict[str, Any] = {}
    for name, field in record.fields.items():
        sent = args.get(name) is not None and name != "updated_at"
        if field.generated and not sent:
            made[name] = origin.text(f"{subject}\0{name}")
        elif field.auto and not sent:
            made[name] = _automatic(field.shape.kind, origin, subject)
    if isinstance(args.get("id"), str):
        made["id"] = args["id"].lower()
    return {**args, **made}


def _automatic(kind: str, origin: Origin, subject: str) -> str | int | float:
    if kind == "string":
        return origin.identity(subject)
    return round(origin.now, 3) if kind == "number" else int(origin.now)

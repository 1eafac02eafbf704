"""The credentials of consumers, and where keys are kept.

What is secret about them is known to the Admin API's own answers alone.
"""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, field

from . import checks
from .fields import FREE, GENERATED, HASHED, SECRET, SET, UNIQUE, checked, foreign
from .tables import Dated, Entity, table
from .typedefs import Name, Reference, Tags


@table(
    "keyauth_credentials",
    path="key-auths",
    nested="key-auth",
    key="key",
)
class KeyAuth(Dated, kw_only=True):
    """`ttl` is kept as it is given: whoever checks keys knows how old they are."""

    consumer: Annotated[Reference, foreign("consumers", cascade=True)]
    key: Annotated[str, UNIQUE, SECRET, GENERATED]
    ttl: Annotated[int, Meta(ge=0, le=100_000_000)] | None = None
    tags: Tags = None


@table(
    "basicauth_credentials",
    path="basic-auths",
    nested="basic-auth",
    key="username",
)
class BasicAuth(Dated, kw_only=True):
    consumer: Annotated[Reference, foreign("consumers", cascade=True)]
    username: Annotated[str, UNIQUE]
    password: Annotated[str, HASHED]
    tags: Tags = None


@table(
    "hmacauth_credentials",
    path="hmac-auths",
    nested="hmac-auth",
    key="username",
)
class HmacAuth(Dated, kw_only=True):
    consumer: Annotated[Reference, foreign("consumers", cascade=True)]
    username: Annotated[str, UNIQUE]
    secret: Annotated[str, SECRET, GENERATED]
    tags: Tags = None


_Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512",
    "PS256", "PS384", "PS512", "EdDSA",
]  # fmt: skip
_ASYMMETRIC: Final = tuple(name for name in get_args(_Algorithm) if not name.startswith("HS"))


@table(
    "jwt_secrets",
    path="jwts",
    nested="jwt",
    key="key",
    checks=(checks.when("algorithm", _ASYMMETRIC, "rsa_public_key", checks.required),),
)
class JwtSecret(Dated, kw_only=True):
    """`key` names the issuer in a token, so it is no secret."""

    consumer: Annotated[Reference, foreign("consumers", cascade=True)]
    key: Annotated[str, UNIQUE, GENERATED]
    secret: Annotated[str, SECRET, GENERATED]
    rsa_public_key: Annotated[str | None, checked(checks.public_key)] = None
    algorithm: _Algorithm = "HS256"
    tags: Tags = None


@table("acls", key="group", together=("consumer", "group"))
class Acl(Dated, kw_only=True):
    consumer: Annotated[Reference, foreign("consumers", cascade=True)]
    group: str
    tags: Tags = None


@table("oauth2_credentials", path="oauth2", key="client_id")
class OAuth2Credential(Dated, kw_only=True):
    consumer: Annotated[Reference, foreign("consumers", cascade=True)]
    name: str
    client_id: Annotated[str, UNIQUE, GENERATED]
    client_secret: Annotated[str, SECRET, GENERATED]
    hash_secret: bool = False
    redirect_uris: Annotated[list[str] | None, SET] = None
    client_type: Literal["confidential", "public"] = "confidential"
    tags: Tags = None


@table("vaults", key="prefix")
class Vault(Entity, kw_only=True):
    """How a vault is opened is nobody's business, so all of `config` is kept apart."""

    prefix: Annotated[Name, UNIQUE]
    name: str
    description: str | None = None
    config: Annotated[dict[str, Any] | None, FREE, SECRET] = field(default_factory=dict)
    tags: Tags = None


@table("key_sets", path="key-sets", key="name")
class KeySet(Entity, kw_only=True):
    name: Annotated[Name | None, UNIQUE] = None
    tags: Tags = None


class KeyPair(msgspec.Struct):
    private_key: Annotated[str | None, SECRET] = None
    public_key: str | None = None


@table(
    "keys",
    key="name",
    together=("kid", "set"),
    checks=(checks.AtLeastOneOf("jwk", "pem"),),
)
class Key(Entity, kw_only=True):
    """A `jwk` may hold a private key, so all of it is kept apart."""

    set: Annotated[Reference | None, foreign("key_sets", cascade=True)] = None
    name: Annotated[Name | None, UNIQUE] = None
    kid: str
    jwk: Annotated[str | None, SECRET] = None
    pem: KeyPair | None = None
    tags: Tags = None

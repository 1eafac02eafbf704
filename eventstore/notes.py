"""Signed notes and checkpoints as C2SP specifies them (signed-note, tlog-checkpoint). No keys here.

    <log id>\\n<tree size>\\n<root, base64>\\n        the text of a checkpoint
    \\n— <log id> <base64 of key id and signature>\\n  what a signature adds to a text

The key id is 4 bytes of SHA-256 over name, newline, 0x01 (Ed25519) and public key. A verifier key,
`<name>+<key id>+<base64>`, says the same in one line, and is what an auditor is given.
"""

from base64 import b64decode, b64encode
from hashlib import sha256

import msgspec

_ED25519 = b"\1"


class Tip(msgspec.Struct, frozen=True):
    """What a checkpoint says: the log `origin` had `size` events, and this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


class Signature(msgspec.Struct, frozen=True):
    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.signature).decode()}\n"


class Note(msgspec.Struct, frozen=True):
    """A text with one signature. Whether it holds is for others to say."""

    text: str
    signature: Signature

    def __str__(self) -> str:
        return f"{self.text}\n{self.signature.line}"

    @property
    def tip(self) -> Tip:
        """Of a checkpoint. Raises ValueError for other notes."""
        try:
            origin, digits, root = self.text.removesuffix("\n").split("\n")
            tip = Tip(origin, int(digits), b64decode(root, validate=True))
        except ValueError as error:
            raise ValueError("not a checkpoint") from error
        if tip.text != self.text or len(tip.root) != 32 or tip.size < 0:
            raise ValueError("not a checkpoint")
        return tip


def parse(note: str) -> Note:
    """Raises ValueError unless it is a text with one signature line, and nothing else."""
    text, separator, line = note.rpartition("\n\n")
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.removesuffix("\n").partition(" ")
    try:
        raw = b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError("not a signed note") from error
    parsed = Note(text + "\n", Signature(name, raw[:4], raw[4:]))
    if not separator or dash != "—" or len(raw) != 68 or str(parsed) != note:
        raise ValueError("not a signed note")
    return parsed


def key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    """The public key in the form that verifiers take."""
    return f"{name}+{key_id(name, public).hex()}+{b64encode(_ED25519 + public).decode()}"

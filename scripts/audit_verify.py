"""Checks an audit export of Hooktape, or a proof. Needs Python 3.11 and nothing else.

    python -I audit_verify.py EXPORT --key KEY [--since CHECKPOINT]

EXPORT is a directory made by `hooktape audit export`, or a file made by `hooktape audit prove`.
KEY is the log's verifier key, or a file that holds it: get it from somebody you trust, once, and
not from the export. CHECKPOINT is a file with a checkpoint of the log that you were given earlier.

What holds when this says OK:

  * The holder of the key, or of a newer one that it endorsed, made the export, byte for byte.
  * Every event in it has this place in the log of the signed checkpoint: the hashes of all events
    (RFC 6962), shown or left out, make its root. Nothing was left out of an unfiltered range.
  * Every body is the one whose digest was stored with its event. Bodies that were erased or
    withheld are counted; what is `shown` of a withheld one only the signature vouches for.
  * With --since: the log then is the beginning of the log now.

Exit codes: 0 it holds, 1 it does not (one line says what, and where), 2 wrong usage, 3 a file
cannot be read.
"""

import gzip
import hashlib
import hmac
import json
import sys
import zlib
from argparse import ArgumentParser
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXPORT, PROOF = "hooktape-audit-export/1", "hooktape-audit-proof/1"
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)

BODIES = (
    {"salt", "body"},
    {"salt", "body_base64"},
    {"shown"},  # withheld, and what may be shown of it
    {"erased"},
    set[str](),  # withheld or erased
)
"""What may be in an event's line beside envelope and body digest."""

Json = Any
Keys = dict[bytes, bytes]
Tip = tuple[int, bytes]  # size and root
Point = tuple[int, int, int, int]

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
Y = 4 * pow(5, -1, P) % P
BASE = (X, Y, 1, X * Y % P)


class Invalid(Exception):
    """What does not hold, in one line."""


def main(arguments: list[str]) -> int:
    parser = ArgumentParser(description="Check an audit export or a proof of Hooktape.")
    parser.add_argument("export", type=Path, help="directory of an export, or file of a proof")
    parser.add_argument("--key", required=True, help="the log's verifier key, or a file with it")
    parser.add_argument("--since", type=Path, help="file with an earlier checkpoint of yours")
    given = parser.parse_args(arguments)
    try:
        key = given.key if given.key.count("+") > 1 else Path(given.key).read_text()
        since = given.since and given.since.read_text()
        verify = verify_export if given.export.is_dir() else verify_proof
        print("OK:", verify(given.export, key.strip(), since))
    except Invalid as reason:
        print("NOT VALID:", reason)
        return 1
    except MALFORMED as error:
        print(f"NOT VALID: malformed ({type(error).__name__}: {error})".splitlines()[0])
        return 1
    except OSError as error:
        print("CANNOT READ:", error)
        return 3
    return 0


def verify_export(directory: Path, key: str, since: str | None) -> str:
    """One line of what holds. Raises Invalid, and others of MALFORMED."""
    text = (directory / "manifest.json").read_bytes()
    manifest = parse(text)
    log, keys = manifest["log"], trusted(key, manifest)
    vouched((directory / "export.note").read_bytes().decode(), log, text, keys)
    if manifest["format"] != EXPORT:
        raise Invalid(f"the format is {manifest['format']!r}, this program knows {EXPORT!r}")
    size, root = checkpoint(manifest["checkpoint"], log, keys)
    found = fold(directory, manifest, size, root)
    grown = consistency(manifest["consistency"], log, keys, since, (size, root))
    events = manifest["events"]
    return (
        f"{found} events of positions {manifest['first']} to {manifest['last']} in log {log} of "
        f"{size}; {events['withheld']} bodies withheld, {events['erased']} erased"
        + ("; filtered" if manifest["filters"] else "; nothing left out")
        + grown
    )


def verify_proof(path: Path, key: str, since: str | None) -> str:
    """The same for a proof: a line of JSON, and a line with the note that vouches for it."""
    text, note, *rest = path.read_bytes().split(b"\n")
    proof = parse(text)
    log, keys = proof["log"], trusted(key, proof)
    vouched(parse(note), log, text, keys)
    if rest != [b""] or proof["format"] != PROOF:
        raise Invalid(f"this is no proof of the format {PROOF!r}")
    size, root = checkpoint(proof["checkpoint"], log, keys)
    for each in proof["events"]:
        leaf, seq = leaf_of(each["line"]), each["line"]["envelope"][0]
        if not included(leaf, seq - 1, size, unbase64(each["proof"]), root):
            raise Invalid(f"position {seq}: the proof does not lead to the root")
    grown = consistency(proof.get("consistency"), log, keys, since, (size, root))
    positions = ", ".join(str(each["line"]["envelope"][0]) for each in proof["events"])
    return f"positions {positions} are in log {log} of {size}{grown}"


def fold(directory: Path, manifest: Json, size: int, root: bytes) -> int:
    """How many events are in the file, all of whose lines make the root."""
    contents, path = manifest["events"], directory / manifest["events"]["file"]
    if path.parent != directory or digest(path) != (contents["size"], contents["sha256"]):
        raise Invalid("the file of events is not the one of the manifest")
    if manifest["last"] > size:
        raise Invalid(f"there is no position {manifest['last']!r} in the checkpoint of {size}")
    tree, count, bare = Tree(), 0, 0
    for line in lines(path):
        if "envelope" in line:
            count, bare = count + 1, bare + ("salt" not in line)
            add_event(tree, line, manifest)
        else:
            add_omission(tree, line, manifest)
    if (tree.size, tree.root) != (size, root):
        raise Invalid(f"{tree.size} events do not make the root of the checkpoint of {size}")
    if (count, bare) != (contents["events"], contents["withheld"] + contents["erased"]):
        raise Invalid("the manifest counts other events")
    return count


def add_event(tree: "Tree", line: Json, manifest: Json) -> None:
    seq, here = line["envelope"][0], tree.size + 1
    if seq != here or not manifest["first"] <= here <= manifest["last"]:
        raise Invalid(f"position {seq!r} is in the place of {here}")
    tree.add(leaf_of(line), 0)


def add_omission(tree: "Tree", line: Json, manifest: Json) -> None:
    before = tree.size
    tree.add(bytes.fromhex(line["hash"]), line["omitted"])
    left_out = max(before + 1, manifest["first"])
    if not manifest["filters"] and left_out <= min(tree.size, manifest["last"]):
        raise Invalid(f"position {left_out} was left out")


def leaf_of(line: Json) -> bytes:
    """The leaf hash of an event whose body is intact, or not there."""
    seq, body_digest = line["envelope"][0], bytes.fromhex(line["body_digest"])
    if len(line["envelope"]) != 13 or type(seq) is not int or len(body_digest) != 32:
        raise Invalid(f"position {seq!r}: the line is no event")
    if line.keys() - {"envelope", "body_digest"} not in BODIES:
        raise Invalid(f"position {seq}: the line says what no proof covers")
    if "salt" in line:
        text = line.get("body")
        body = b64decode(line["body_base64"], validate=True) if text is None else text.encode()
        if hmac.digest(bytes.fromhex(line["salt"]), body, "sha256") != body_digest:
            raise Invalid(f"position {seq}: the body is not the one of its digest")
    envelope = json.dumps(line["envelope"], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(b"\0" + envelope.encode() + body_digest).digest()


def lines(path: Path) -> Iterator[Json]:
    try:
        with gzip.open(path) as file:
            for line in file:
                yield parse(line)
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid(f"the file of events cannot be unpacked: {error}") from error


def digest(path: Path) -> tuple[int, str]:
    state, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
            size += len(piece)
    return size, state.hexdigest()


def parse(text: bytes) -> Json:
    return json.loads(text, object_pairs_hook=members)


def members(pairs: list[tuple[str, Json]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Invalid("a name is twice in an object")
    return found


# Keys and notes: C2SP signed-note and tlog-checkpoint, with one signature.


def trusted(key: str, document: Json) -> Keys:
    """The caller's key, and the newer ones that lead back to it, by key id."""
    name, _, rest = key.partition("+")
    raw = b64decode(rest.partition("+")[2], validate=True)
    if len(raw) != 33 or key != verifier_key(name, raw[1:]):
        raise Invalid("the key given is no verifier key")
    if name != document["log"]:
        raise Invalid(f"the key given is of log {name}, this is of log {document['log']!r}")
    keys, last = {key_id(name, raw[1:]): raw[1:]}, None
    for each in document["keys"]:
        if last is not None:
            text = signed(each["endorsement"], name, last)
            if text != f"{name}/key\n{each['vkey']}\n":
                raise Invalid("an endorsement is of another key")
        if last is not None or each["vkey"] == key:
            public = b64decode(each["vkey"].split("+", 2)[2], validate=True)[1:]
            last = {key_id(name, public): public}
            keys |= last
    return keys


def key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    return f"{name}+{key_id(name, public).hex()}+{b64encode(bytes([1]) + public).decode()}"


def signed(note: str, name: str, keys: Keys) -> str:
    """The text of a note, if one of the keys signed it."""
    text, _, line = note.rpartition("\n\n")
    raw = b64decode(line.rpartition(" ")[2], validate=False)
    if note != f"{text}\n\n\u2014 {name} {b64encode(raw).decode()}\n" or len(raw) != 68:
        raise Invalid("a note is not signed in the name of the log")
    if raw[:4] not in keys:
        raise Invalid("a note is signed with a key that the given one does not endorse")
    if not verify_signature(keys[raw[:4]], f"{text}\n".encode(), raw[4:]):
        raise Invalid("a signature does not hold")
    return f"{text}\n"


def vouched(note: str, log: str, text: bytes, keys: Keys) -> None:
    if signed(note, log, keys) != f"{log}/export\n{hashlib.sha256(text).hexdigest()}\n":
        raise Invalid("the manifest is not the one that was signed")


def checkpoint(note: str, log: str, keys: Keys) -> Tip:
    return tip(signed(note, log, keys), log)


def tip(text: str, log: str) -> Tip:
    _, digits, encoded, *_ = text.split("\n")
    size, root = int(digits), b64decode(encoded)
    if not text.startswith(f"{log}\n{size}\n{b64encode(root).decode()}\n") or len(root) != 32:
        raise Invalid("a checkpoint is malformed or of another log")
    return size, root


def consistency(proof: Json, log: str, keys: Keys, since: str | None, new: Tip) -> str:
    """What to say of the log's growth. Raises Invalid if it only shrank or changed."""
    if since is not None:
        old = tip(since, log)
        if proof is None or checkpoint(proof["checkpoint"], log, keys) != old:
            raise Invalid(f"there is no consistency proof from your checkpoint of {old[0]}")
    if proof is None:
        return ""
    old = checkpoint(proof["checkpoint"], log, keys)
    if not consistent(*old, *new, unbase64(proof["proof"])):
        raise Invalid(f"the log of {old[0]} events is not the beginning of this one")
    return f"; it grew from the {'given' if since else 'earlier'} checkpoint of {old[0]}"


# Merkle trees: RFC 6962 section 2.1, the algorithms of RFC 9162.


EMPTY = hashlib.sha256().digest()


def join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The root over subtrees that come in order; 2**level events each."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes: list[bytes] = []

    def add(self, hash_: bytes, level: int) -> None:
        fits = type(level) is int and 0 <= level < 64 and self.size % 2**level == 0
        if not fits or len(hash_) != 32:
            raise Invalid(f"a line after position {self.size} covers no part of the tree")
        number, self.size = self.size >> level, self.size + 2**level
        while number & 1:
            hash_, number = join(self._hashes.pop(), hash_), number >> 1
        self._hashes.append(hash_)

    @property
    def root(self) -> bytes:
        *others, hash_ = self._hashes or [EMPTY]
        for left in reversed(others):
            hash_ = join(left, hash_)
        return hash_


def unbase64(hashes: list[str]) -> list[bytes]:
    found = [b64decode(each, validate=True) for each in hashes]
    if any(len(each) != 32 for each in found):
        raise Invalid("a proof holds what is no hash")
    return found


def included(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    if not 0 <= index < size:
        return False
    node, last, hash_ = index, size - 1, leaf
    for sibling in proof:
        if not last:
            return False
        if node & 1 or node == last:
            hash_ = join(sibling, hash_)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hash_ = join(hash_, sibling)
        node, last = node >> 1, last >> 1
    return not last and hash_ == root


def consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes]) -> bool:
    if old == new or not old:
        return not proof and 0 <= old <= new and old_root == (new_root if old else EMPTY)
    if not 0 < old < new or not proof:
        return False
    first, *rest = proof if old & (old - 1) else (old_root, *proof)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_hash = new_hash = first
    for sibling in rest:
        if not last:
            return False
        if node & 1 or node == last:
            old_hash, new_hash = join(sibling, old_hash), join(sibling, new_hash)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new_hash = join(new_hash, sibling)
        node, last = node >> 1, last >> 1
    return not last and old_hash == old_root and new_hash == new_root


# Ed25519: RFC 8032 section 5.1.7, without cofactor. A point is (x, y, z, t), x = x/z, t = xy/z.


def verify_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little")
    return same(multiply(s, BASE), add(r, multiply(k % ORDER, a)))


def point(data: bytes) -> Point | None:
    """RFC 8032, 5.1.3; None for what is no encoding of a point."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if len(data) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (not x and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def add(one: Point, other: Point) -> Point:
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number: int, base: Point) -> Point:
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, base)
        base, number = add(base, base), number >> 1
    return result


def same(one: Point, other: Point) -> bool:
    return not (
        (one[0] * other[2] - other[0] * one[2]) % P or (one[1] * other[2] - other[1] * one[2]) % P
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

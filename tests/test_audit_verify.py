"""The verifier that auditors run: alone, on the standard library, and hard to deceive."""

import ast
import base64
import gzip
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings, strategies as st

from eventstore import signing
from eventstore.audit_source import log_id, reading_from
from eventstore.exports import export
from eventstore.proofs import prove
from eventstore.selection import Selection
from eventstore.signing import Signer
from scripts import audit_verify
from tests.eventstore.audited import VERIFIER, exported, grow, key, log_with_everything, verified

# Private key, public key, message, signature: RFC 8032, section 7.1.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
            "f9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
            "f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
            "4dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3"
            "feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c664"
            "31e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]


@pytest.mark.parametrize(("private", "public", "message", "signature"), RFC_8032)
def test_the_signatures_of_rfc_8032_hold(
    private: str, public: str, message: str, signature: str
) -> None:
    """Its vectors, also made by the library; with another message they do not hold."""
    raw = bytes.fromhex(message)
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))

    assert key.sign(raw).hex() == signature
    assert audit_verify.verify_signature(bytes.fromhex(public), raw, bytes.fromhex(signature))
    assert not audit_verify.verify_signature(
        bytes.fromhex(public), raw + b"!", bytes.fromhex(signature)
    )


def library(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.data())
def test_the_library_agrees(private: bytes, message: bytes, data: st.DataObject) -> None:
    """On true signatures, and on those with a flipped bit in key, message or signature."""
    signer = Ed25519PrivateKey.from_private_bytes(private)
    parts = [signer.public_key().public_bytes_raw(), message, signer.sign(message)]
    assert audit_verify.verify_signature(*parts)
    part = data.draw(st.sampled_from([n for n in range(3) if parts[n]]))
    changed = bytearray(parts[part])
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    parts[part] = bytes(changed)

    assert audit_verify.verify_signature(*parts) == library(*parts) == False  # noqa: E712


@given(st.binary(max_size=40), st.binary(max_size=10), st.binary(max_size=70))
def test_rubbish_is_no_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Whatever lengths and bytes come, the answer is no."""
    assert not audit_verify.verify_signature(public, message, signature)


def test_a_signature_has_one_form() -> None:
    """What is the same modulo the order of the group, or of the field, is refused."""
    _, public, message, signature = (bytes.fromhex(each) for each in RFC_8032[0])
    s = int.from_bytes(signature[32:], "little") + audit_verify.ORDER
    larger = signature[:32] + s.to_bytes(32, "little")
    not_reduced = (audit_verify.P + 1).to_bytes(32, "little")

    assert not audit_verify.verify_signature(public, message, larger)
    assert audit_verify.point(not_reduced) is None
    assert audit_verify.point((1 | 1 << 255).to_bytes(32, "little")) is None


def test_it_needs_nothing_but_the_standard_library() -> None:
    """One file, no import of ours or of anybody else's."""
    tree = ast.parse(VERIFIER.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported <= sys.stdlib_module_names


def run(path: Path, key: str, *more: str) -> tuple[int, str]:
    """Like `verified`, in this process: it must not raise."""
    with redirect_stdout(io.StringIO()) as words:
        code = audit_verify.main([str(path), "--key", key, *more])
    return code, words.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with a second key, and checkpoints."""
    directory = log_with_everything(tmp_path_factory.mktemp("log") / "data", 20)
    exported(directory, "before")
    signing.rotate(directory, log_id(directory))
    grow(directory, 3)
    return directory


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """An export that nobody changes: filtered, and with a consistency proof."""
    return exported(data, "whole", first=2, last=30, workspace="one")


@pytest.fixture(scope="module")
def proof(data: Path) -> Path:
    path = data.with_name("proof")
    with reading_from(data) as source:
        path.write_bytes(prove(source, [3, 6]))
    return path


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("copy") / "export"


@pytest.fixture(scope="module")
def signer(data: Path) -> Signer:
    return signing.load(data / "keys.db", log_id(data))


@settings(max_examples=300, deadline=None)
@given(draw=st.data())
def test_no_changed_export_is_accepted(
    draw: st.DataObject, whole: Path, copy: Path, signer: Signer
) -> None:
    """Any flipped bit in any of its files, with the first key or the newest."""
    assert run(whole, signer.keys[0].vkey)[0] == 0
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    file = draw.draw(st.sampled_from(sorted(copy.iterdir())))
    content = bytearray(file.read_bytes())
    bit = draw.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    code, words = run(copy, draw.draw(st.sampled_from(signer.keys)).vkey)

    assert (code, words[:11], words.count("\n")) == (1, "NOT VALID: ", 1)


@settings(max_examples=300, deadline=None)
@given(draw=st.data())
def test_no_changed_proof_is_accepted(
    draw: st.DataObject, proof: Path, copy: Path, signer: Signer
) -> None:
    """Nor any flipped bit in a proof."""
    shutil.rmtree(copy, ignore_errors=True)
    content = bytearray(proof.read_bytes())
    bit = draw.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    copy.write_bytes(content)
    code, words = run(copy, signer.keys[-1].vkey)
    copy.unlink()

    assert (code, words[:11], words.count("\n")) == (1, "NOT VALID: ", 1)


@settings(max_examples=300, deadline=None)
@given(draw=st.data())
def test_rubbish_is_refused_in_one_line(
    draw: st.DataObject, whole: Path, copy: Path, signer: Signer
) -> None:
    """Pieces cut out, put in or doubled, in any file: never a crash, never an OK."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    file = draw.draw(st.sampled_from(sorted(copy.iterdir())))
    content = file.read_bytes()
    start = draw.draw(st.integers(0, len(content)))
    end = draw.draw(st.integers(start, len(content)))
    piece = draw.draw(st.binary(max_size=20) | st.sampled_from([b"[" * 99_999, b"9" * 5000]))
    changed = content[:start] + piece + content[end:]
    file.write_bytes(changed)
    code, words = run(copy, signer.keys[-1].vkey)

    assert code == (0 if changed == content else 1)
    assert words.count("\n") == 1


Tamper = Callable[[dict[str, Any], list[dict[str, Any]]], None]


def signed_again(
    whole: Path, copy: Path, signer: Signer, tamper: Tamper, *, more: bytes = b""
) -> Path:
    """The export as a liar would hand it out who has the key: everything fits but the tree."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    manifest = json.loads((copy / "manifest.json").read_bytes())
    with gzip.open(copy / "events.jsonl.gz") as file:
        lines = [json.loads(line) for line in file]
    tamper(manifest, lines)
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + more
    content = gzip.compress(text)
    (copy / "events.jsonl.gz").write_bytes(content)
    manifest["events"]["size"] = len(content)
    manifest["events"]["sha256"] = hashlib.sha256(content).hexdigest()
    encoded = json.dumps(manifest).encode()
    (copy / "manifest.json").write_bytes(encoded)
    note = signer.statement(hashlib.sha256(encoded).hexdigest())
    (copy / "export.note").write_bytes(note.encode())
    return copy


def nothing(_manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    pass


def actor(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4]["envelope"][10] = "somebody else"


def body(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4]["body"] += " "


def dropped(manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    del lines[4]
    manifest["events"]["events"] -= 1


def dropped_last(manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    del lines[-1]
    manifest["events"]["events"] -= 1


def swapped(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def hidden(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4] = {"omitted": 0, "hash": audit_verify.leaf_of(lines[4]).hex()}


def out_of_range(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["first"] = 3


def counted(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["events"]["events"] += 1


def bare(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    del lines[4]["salt"], lines[4]["body"]


def false_body(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4]["body"] = "what never was"
    del lines[4]["salt"]


def two_bodies(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4]["body_base64"] = "AAAA"


def beyond(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["last"] = 34


def no_hash(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines[4] = {"omitted": 0, "hash": "00"}


def no_hash_in_proof(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["consistency"]["proof"][0] = "AAAA"


def huge(_manifest: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    lines.append({"omitted": 10**9, "hash": "00" * 32})


def elsewhere(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["events"]["file"] = "../export/events.jsonl.gz"


def other_format(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["format"] = "hooktape-audit-export/2"


def shrunk(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
    manifest["consistency"]["proof"][0] = base64.b64encode(bytes(32)).decode()


@pytest.fixture(scope="module")
def everything(data: Path, signer: Signer) -> Path:
    with reading_from(data) as source:
        since = signer.checkpoint(10, source.tree.root(10))
    path = data.with_name("everything")
    export(data, path, Selection(), since=since)
    return path


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (actor, "do not make the root"),
        (body, "position 5: the body is not the one of its digest"),
        (dropped, "position 6 is in the place of 5"),
        (dropped_last, "32 events do not make the root of the checkpoint of 33"),
        (swapped, "position 6 is in the place of 5"),
        (hidden, "position 5 was left out"),
        (out_of_range, "position 1 is in the place of 1"),
        (counted, "the manifest counts other events"),
        (bare, "the manifest counts other events"),
        (false_body, "position 5: the line says what no proof covers"),
        (two_bodies, "position 5: the line says what no proof covers"),
        (beyond, "there is no position 34 in the checkpoint of 33"),
        (no_hash, "a line after position 4 covers no part of the tree"),
        (no_hash_in_proof, "a proof holds what is no hash"),
        (huge, "a line after position 33 covers no part of the tree"),
        (elsewhere, "the file of events is not the one of the manifest"),
        (other_format, "the format is 'hooktape-audit-export/2'"),
        (shrunk, "is not the beginning of this one"),
    ],
)
def test_not_even_the_holder_of_the_key_can_change_the_past(
    everything: Path, copy: Path, signer: Signer, tamper: Tamper, reason: str
) -> None:
    """Signed like a true export, and found by the tree; the position is named."""
    path = signed_again(everything, copy, signer, nothing)
    assert run(path, signer.keys[0].vkey)[0] == 0
    path = signed_again(everything, copy, signer, tamper)
    code, words = run(path, signer.keys[0].vkey)

    assert code == 1
    assert reason in words


@pytest.mark.parametrize("more", [b"{}\n", b"[]\n", b"\xff\n", b"x", b'{"a":1,"a":2}\n'])
def test_lines_that_are_none_are_refused(
    everything: Path, copy: Path, signer: Signer, more: bytes
) -> None:
    """Also in an export that is signed."""
    path = signed_again(everything, copy, signer, nothing, more=more)

    assert run(path, signer.keys[0].vkey)[0] == 1


def test_strangers_cannot_sign(everything: Path, copy: Path, signer: Signer) -> None:
    """With a key of their own, under the log's name, and with an endorsement by themselves."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = private.public_key().public_bytes_raw()
    stranger = Signer(signer.log_id, (), (public,), bytes(32))
    vkey = audit_verify.verifier_key(signer.log_id, public)
    endorsement = stranger.sign(f"{signer.log_id}/key\n{vkey}\n")

    def endorse(manifest: dict[str, Any], _lines: list[dict[str, Any]]) -> None:
        manifest["keys"].append({"vkey": vkey, "endorsement": endorsement})

    for tamper in (nothing, endorse):
        path = signed_again(everything, copy, stranger, tamper)
        code, words = run(path, signer.keys[0].vkey)
        assert code == 1
        assert "a key that the given one does not endorse" in words


def test_the_key_must_be_one_of_the_log(everything: Path, signer: Signer) -> None:
    """Another log's key, a key with a wrong id, or none at all."""
    vkey = signer.keys[0].vkey
    other = audit_verify.verifier_key("other", bytes(32))

    assert "is of log other, this is of log" in run(everything, other)[1]
    assert "no verifier key" in run(everything, vkey.replace("+", "+0", 1))[1]
    assert run(everything, "++")[0] == 1
    assert run(everything, vkey[:-1])[0] == 1


def test_a_newer_key_vouches_for_nothing_older(data: Path, whole: Path, signer: Signer) -> None:
    """An export from before the rotation needs the key of then."""
    before = whole.with_name("before")

    assert run(before, signer.keys[0].vkey)[0] == 0
    assert run(before, signer.keys[1].vkey) == (
        1,
        "NOT VALID: a note is signed with a key that the given one does not endorse\n",
    )


def test_a_checkpoint_of_one_s_own_decides(data: Path, everything: Path, signer: Signer) -> None:
    """If the log shows another past than it showed once, the export is refused."""
    for name, root, code in (("true", None, 0), ("false", bytes(32), 1)):
        with reading_from(data) as source:
            note = signer.checkpoint(10, root or source.tree.root(10))
        kept = data.with_name(name)
        kept.write_text(note)
        path = data.with_name(f"since-{name}")
        with reading_from(data) as source:
            since = signer.checkpoint(10, source.tree.root(10))
        export(data, path, Selection(), since=since)

        assert run(path, signer.keys[0].vkey, "--since", str(kept))[0] == code


def test_exit_codes_tell(tmp_path: Path, data: Path, everything: Path) -> None:
    """0 holds, 1 does not, 2 wrong usage, 3 cannot be read; from the command line."""
    kept = tmp_path / "key"
    kept.write_text(key(data) + "\n")
    (tmp_path / "nothing").mkdir()

    assert verified(everything, key(data))[0] == 0
    assert verified(everything, str(kept))[0] == 0
    assert verified(everything / "manifest.json", key(data))[0] == 1
    assert verified(everything, key(data), "--unknown")[0] == 2
    assert verified(tmp_path / "gone", key(data))[0] == 3
    code, words = verified(tmp_path / "nothing", key(data))
    assert code == 3
    assert words.startswith("CANNOT READ: ")

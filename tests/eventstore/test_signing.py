"""Notes, checkpoints and the keys that sign them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest
from hypothesis import given, strategies as st

from eventstore import EventLog, LogDamaged, LogLocked, notes, signing
from eventstore.notes import Tip
from eventstore.signing import Signer

LOG = "0b5cf7a6-3c1d-4c0e-9a7e-6a1f1b6f7c11"


@pytest.fixture
def signer(directory: Path) -> Signer:
    """The keys of a log that was just made."""
    directory.mkdir()
    (directory / "keys.db").touch()
    return signing.load(directory / "keys.db", LOG)


def test_a_checkpoint_says_size_and_root(signer: Signer) -> None:
    """In C2SP's three lines, and it can be read back."""
    note = signer.checkpoint(7, b"r" * 32)

    assert note.splitlines()[:3] == [LOG, "7", "cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI="]
    assert signer.verify(note).tip == Tip(LOG, 7, b"r" * 32)


def test_another_implementation_accepts_our_notes(signer: Signer) -> None:
    """aics-tlog reads key and checkpoint as we mean them."""
    other = pytest.importorskip("aics_tlog", reason="aics-tlog needs Python 3.12")
    note = other.parse_note(signer.checkpoint(7, b"r" * 32))
    key = other.parse_vkey(signer.keys[0].vkey)

    assert other.verify_note(note, [key])
    checkpoint = other.parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (LOG, 7, b"r" * 32)


def test_keys_stay(directory: Path, signer: Signer) -> None:
    """A restart signs with the same key."""
    assert signing.load(directory / "keys.db", LOG) == signer


def test_a_new_key_is_endorsed_by_the_old_one(directory: Path, signer: Signer) -> None:
    """The chain is there, old notes hold, and the old private key is gone from the file."""
    old = signer.checkpoint(1, bytes(32))
    newer = signing.rotate(directory, LOG)
    newest = signing.rotate(directory, LOG)

    assert [key.vkey for key in newest.keys[:2]] == [key.vkey for key in newer.keys]
    assert newest.keys[0] == signer.keys[0]
    assert newest.verify(old).tip.size == 1
    for key, before in zip(newest.keys[1:], newest.publics, strict=False):
        endorsement = newest.verify(key.endorsement or "")
        assert endorsement.text == f"{LOG}/key\n{key.vkey}\n"
        assert endorsement.signature.key_id == notes.key_id(LOG, before)
    stored = b"".join(path.read_bytes() for path in directory.glob("keys.db*"))
    assert signer.private not in stored
    assert newest.private in stored


async def test_keys_are_not_changed_under_a_running_service(directory: Path) -> None:
    """It would go on signing with the old one."""
    async with EventLog.open(directory):
        with pytest.raises(LogLocked):
            await anyio.to_thread.run_sync(signing.rotate, directory, LOG)


def test_a_lost_private_key_is_damage(directory: Path, signer: Signer) -> None:
    """No new key without the endorsement of the old one."""
    with closing(sqlite3.connect(directory / "keys.db")) as connection, connection:
        connection.execute("UPDATE signing_key SET private = NULL")

    with pytest.raises(LogDamaged, match=r"keys\.db holds no usable signing key"):
        signing.load(directory / "keys.db", LOG)


def test_only_our_own_notes_verify(directory: Path, signer: Signer) -> None:
    """Another log's key, another name, another text: none of them is ours."""
    note = signer.checkpoint(1, bytes(32))
    with closing(sqlite3.connect(directory / "keys.db")) as connection, connection:
        connection.execute("DROP TABLE signing_key")
    stranger = signing.load(directory / "keys.db", LOG)

    with pytest.raises(ValueError, match="a key that is not this log's"):
        stranger.verify(note)
    with pytest.raises(ValueError, match="another name"):
        signer.verify(note.replace(f"— {LOG}", "— somebody"))
    with pytest.raises(ValueError, match="does not hold"):
        signer.verify(note.replace("\n1\n", "\n2\n"))
    with pytest.raises(ValueError, match="not a checkpoint"):
        _ = signer.verify(signer.statement("00")).tip


@given(st.data())
def test_no_changed_note_verifies(data: st.DataObject) -> None:
    """Any flipped bit is found, those that base64 would ignore included."""
    note = bytearray(SIGNER.checkpoint(7, b"r" * 32).encode())
    bit = data.draw(st.integers(0, len(note) * 8 - 1))
    note[bit // 8] ^= 1 << bit % 8

    with pytest.raises(ValueError, match=r"."):
        SIGNER.verify(note.decode())


@given(st.text())
def test_rubbish_is_no_note(text: str) -> None:
    """Whatever it is, it is refused and nothing else happens."""
    with pytest.raises(ValueError, match="not a signed note"):
        notes.parse(text)


SIGNER = Signer(
    LOG,
    (),
    (bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),),
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
)
"""With the keys of RFC 8032's first test."""

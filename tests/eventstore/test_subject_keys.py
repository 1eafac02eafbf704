"""Keys of archived bodies: what is forgotten is unreadable, all else stays readable."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from eventstore.errors import KeyForgotten, LogDamaged
from eventstore.subject_keys import Owner, SubjectKeys, _Node, _without

ADA, BOB = bytes(16), bytes(15) + b"\1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keys.db with nothing in it."""
    path = tmp_path / "keys.db"
    sqlite3.connect(path).close()
    return path


def owners() -> list[Owner]:
    return [
        Owner(seq, workspace, subject)
        for seq, (workspace, subject) in enumerate(
            [("w", ADA), ("w", BOB), ("v", ADA), ("v", None), ("w", None)], start=1
        )
    ]


def sealed(path: Path) -> dict[Owner, bytes]:
    with SubjectKeys.open(path) as keys:
        return {owner: keys.encrypt(owner, b"body %d" % owner.seq) for owner in owners()}


def readable(path: Path, bodies: dict[Owner, bytes]) -> list[int]:
    """The positions whose bodies can be read, after the file was opened anew."""
    found = []
    with SubjectKeys.open(path) as keys:
        for owner, body in bodies.items():
            try:
                assert keys.decrypt(owner, body) == b"body %d" % owner.seq
            except KeyForgotten:
                continue
            found.append(owner.seq)
    return found


def test_what_is_sealed_can_be_read_by_its_owner(path: Path) -> None:
    """With the keys alone, by a later process; equal texts of two owners look different."""
    bodies = sealed(path)

    assert readable(path, bodies) == [1, 2, 3, 4, 5]
    assert all(b"body" not in body for body in bodies.values())
    with SubjectKeys.open(path) as keys:
        assert {owner: keys.encrypt(owner, b"body %d" % owner.seq) for owner in owners()} == bodies


@pytest.mark.parametrize(
    ("forgotten", "left"),
    [
        ({"subject": ADA}, [2, 4, 5]),
        ({"workspace": "w"}, [3, 4]),
        ({"positions": [(4, 4)]}, [1, 2, 3, 5]),
        ({"positions": [(2, 3), (5, 900)]}, [1, 4]),
        ({"subject": BOB, "workspace": "v", "positions": [(5, 5)]}, [1]),
        ({"positions": [(1, 2**62 - 1)]}, []),
    ],
)
def test_what_is_forgotten_is_unreadable(
    path: Path, forgotten: dict[str, object], left: list[int]
) -> None:
    """By person, by workspace and by position, an event without a person included."""
    bodies = sealed(path)
    with SubjectKeys.open(path) as keys:
        keys.forget(**forgotten)  # type: ignore[arg-type]

    assert readable(path, bodies) == left
    with SubjectKeys.open(path) as keys:
        keys.forget(**forgotten)  # type: ignore[arg-type]
    assert readable(path, bodies) == left


def test_a_forgotten_key_is_in_no_file(path: Path) -> None:
    """Its bytes are overwritten, not only unlinked."""
    sealed(path)
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT secret FROM owner_key UNION SELECT secret FROM position_key"
        secrets = [row[0] for row in connection.execute(query)]
        (ada,) = connection.execute(
            "SELECT secret FROM owner_key WHERE name = ?", (ADA,)
        ).fetchone()
        (root,) = connection.execute("SELECT secret FROM position_key").fetchone()
    before = path.read_bytes()
    with SubjectKeys.open(path) as keys:
        keys.forget(subject=ADA, positions=[(4, 4)])
    after = path.read_bytes()

    assert all(secret in before for secret in secrets)
    assert [secret for secret in secrets if secret not in after] == sorted(
        {ada, root}, key=secrets.index
    )
    assert [each.name for each in path.parent.iterdir()] == ["keys.db"]


def test_new_keys_open_nothing_old(path: Path) -> None:
    """A person who comes back gets another key; the forgotten bodies stay unreadable."""
    bodies = sealed(path)
    with SubjectKeys.open(path) as keys:
        keys.forget(subject=ADA)
        later = keys.encrypt(Owner(9, "w", ADA), b"body 9")

    assert readable(path, bodies) == [2, 4, 5]
    assert readable(path, {Owner(9, "w", ADA): later}) == [9]


def test_a_forgotten_position_cannot_be_sealed(path: Path) -> None:
    """Whoever held an erased body and comes late is told so."""
    sealed(path)
    with SubjectKeys.open(path) as keys:
        keys.forget(positions=[(2, 2)])
        with pytest.raises(KeyForgotten, match="position 2 "):
            keys.encrypt(Owner(2, "w", BOB), b"late")


def test_an_exception_leaves_no_keys(path: Path) -> None:
    """Half a segment is thrown away, and so are the keys made for it."""
    bodies = []

    def interrupted() -> None:
        with SubjectKeys.open(path) as keys:
            bodies.append(keys.encrypt(Owner(1, "w", ADA), b"body 1"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()

    assert readable(path, {Owner(1, "w", ADA): bodies[0]}) == []


def test_what_was_changed_is_not_read(path: Path) -> None:
    """Neither garbage nor a flipped bit comes out as a body."""
    owner = owners()[0]
    body = sealed(path)[owner]
    with SubjectKeys.open(path) as keys:
        with pytest.raises(LogDamaged):
            keys.decrypt(owner, body[:5])
        with pytest.raises(KeyForgotten):
            keys.decrypt(owner, body[:-1] + bytes([body[-1] ^ 1]))


def test_what_there_is_to_forget_is_known(path: Path) -> None:
    """So that an erasure that finds nothing is told from one that does."""
    with SubjectKeys.open(path) as keys:
        assert not keys.remembers(subject=ADA)
        assert not keys.remembers_position(1)
    sealed(path)
    with SubjectKeys.open(path) as keys:
        assert keys.remembers(subject=ADA)
        assert keys.remembers(workspace="v")
        assert keys.remembers_position(1)
        keys.forget(subject=ADA, positions=[(1, 1)])
        assert not keys.remembers(subject=ADA)
        assert not keys.remembers_position(1)


@given(st.integers(0, 63), st.integers(0, 63))
def test_what_is_left_of_a_node_is_all_but_the_run(one: int, other: int) -> None:
    """Exactly the other positions, each with the secret it had."""
    first, last = sorted((one, other))
    root = _Node(0, 6, bytes(32))
    left = list(_without(root, first, last))

    def secrets(nodes: list[_Node]) -> dict[int, bytes]:
        while any(node.bits for node in nodes):
            nodes = [half for node in nodes for half in (node.halves() if node.bits else (node,))]
        return {node.first: node.secret for node in nodes}

    every = secrets([root])
    assert secrets(left) == {n: every[n] for n in every if not first <= n <= last}
    assert len(left) <= 12

"""Trees and proofs, against the vectors of Certificate Transparency and against each other."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from eventstore.merkle import (
    EMPTY,
    Fold,
    Nodes,
    Tree,
    complete_root,
    consistent,
    cover,
    included,
    join,
)

LEAVES = [
    hashlib.sha256(b"\0" + bytes.fromhex(data)).digest()
    for data in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The reference data of Certificate Transparency's own tests."""

ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

GROWTH = {
    (1, 1): [],
    (1, 8): PATHS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

SMALL = 40


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(b"\0%d" % number).digest() for number in range(count)]


def nodes(hashes: Sequence[bytes]) -> Nodes:
    return lambda level, number: complete_root(hashes[number << level : number + 1 << level])


def by_definition(hashes: Sequence[bytes]) -> bytes:
    """MTH, word for word as in RFC 6962, 2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256().digest()
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return join(by_definition(hashes[:k]), by_definition(hashes[k:]))


def unhex(digits: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(each) for each in digits]


def test_the_roots_are_those_of_certificate_transparency() -> None:
    """All trees over the reference data."""
    tree = Tree(nodes(LEAVES))

    assert [tree.root(size).hex() for size in range(9)] == ROOTS


@pytest.mark.parametrize("case", PATHS)
def test_audit_paths_are_those_of_certificate_transparency(case: tuple[int, int]) -> None:
    """The reference paths come out, and hold."""
    index, size = case
    path = Tree(nodes(LEAVES)).inclusion(index, size)

    assert path == unhex(PATHS[case])
    assert included(LEAVES[index], index, size, path, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize("case", GROWTH)
def test_consistency_proofs_are_those_of_certificate_transparency(case: tuple[int, int]) -> None:
    """The reference proofs come out, and hold."""
    old, new = case
    proof = Tree(nodes(LEAVES)).consistency(old, new)
    roots = [bytes.fromhex(root) for root in ROOTS]

    assert proof == unhex(GROWTH[case])
    assert consistent(old, roots[old], new, roots[new], proof)


def test_all_small_trees_prove_all_their_leaves() -> None:
    """Every leaf of every tree has a path that holds, for it and for no other place."""
    hashes = leaves(SMALL)
    tree = Tree(nodes(hashes))
    for size in range(1, SMALL + 1):
        root = by_definition(hashes[:size])
        for index in range(size):
            path = tree.inclusion(index, size)

            assert included(hashes[index], index, size, path, root)
            assert not included(hashes[index], index ^ 1, size, path, root)
            assert not included(hashes[index - 1], index, size, path, root) or size == 1
            assert not included(hashes[index], index, size, [*path, EMPTY], root)
            assert not path or not included(hashes[index], index, size, path[:-1], root)


def test_all_small_trees_are_consistent_with_their_beginnings() -> None:
    """Every pair of sizes has a proof that holds, and not with another root on either side."""
    hashes = leaves(SMALL)
    tree = Tree(nodes(hashes))
    roots = [by_definition(hashes[:size]) for size in range(SMALL + 1)]
    for new in range(SMALL + 1):
        for old in range(new + 1):
            proof = tree.consistency(old, new)

            assert consistent(old, roots[old], new, roots[new], proof)
            assert not consistent(old, b"?" * 32, new, roots[new], proof)
            assert not old or not consistent(old, roots[old], new, b"?" * 32, proof)
            assert not consistent(old, roots[old], new, roots[new], [*proof, EMPTY])
            assert not proof or not consistent(old, roots[old], new, roots[new], proof[:-1])


@given(st.data())
def test_large_trees_prove_leaves_and_growth(data: st.DataObject) -> None:
    """Random places in trees of up to some thousand leaves; a changed proof does not hold."""
    new = data.draw(st.integers(2, 5000))
    old = data.draw(st.integers(1, new - 1))
    index = data.draw(st.integers(0, new - 1))
    hashes = leaves(new)
    tree = Tree(nodes(hashes))
    root, path, proof = tree.root(new), tree.inclusion(index, new), tree.consistency(old, new)

    assert included(hashes[index], index, new, path, root)
    assert consistent(old, tree.root(old), new, root, proof)
    place = data.draw(st.integers(0, len(path) - 1))
    assert not included(hashes[index], index, new, [*path[:place], EMPTY, *path[place + 1 :]], root)
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = [*proof[:place], EMPTY, *proof[place + 1 :]]
    assert not consistent(old, tree.root(old), new, root, changed)


@given(st.integers(0, 10**9), st.integers(0, 300))
def test_a_cover_is_gapless_and_short(begin: int, length: int) -> None:
    """The subtrees follow one another from begin to end, and are few."""
    found = list(cover(begin, begin + length))

    place = begin
    for level, number in found:
        assert number << level == place
        place += 1 << level
    assert place == begin + length
    assert len(found) <= 2 * (length + 1).bit_length()


@given(st.integers(0, 600), st.sets(st.integers(0, 599)))
def test_folding_leaves_and_covers_gives_the_root(size: int, whole: set[int]) -> None:
    """Whatever is replaced by the hashes of its subtrees, the root stays."""
    hashes = leaves(size)
    tree_nodes, fold = nodes(hashes), Fold()
    place = 0
    for index in sorted(index for index in whole if index < size):
        for level, number in cover(place, index):
            fold.add(tree_nodes(level, number), level)
        fold.add(hashes[index])
        place = index + 1
    for level, number in cover(place, size):
        fold.add(tree_nodes(level, number), level)

    assert fold.size == size
    assert fold.root == by_definition(hashes)


def test_what_is_no_place_in_a_tree_is_refused() -> None:
    """A leaf outside, a tree that is no beginning, a subtree where none can begin."""
    tree, fold = Tree(nodes(leaves(3))), Fold()
    fold.add(EMPTY)

    with pytest.raises(ValueError, match="no leaf 3"):
        tree.inclusion(3, 3)
    with pytest.raises(ValueError, match="no beginning"):
        tree.consistency(3, 2)
    with pytest.raises(ValueError, match="level 1"):
        fold.add(EMPTY, 1)
    assert not included(EMPTY, 1, 1, [], EMPTY)
    assert not consistent(2, EMPTY, 1, EMPTY, [])


FOREIGN = "3d4851daec2cd2f1644617ce5e5cfe1e4e187e71b0ba1ba28dfcd6c4894910d8"
"""`everything` of trees up to 70 leaves, as aics-tlog 0.2.1 makes them."""

FOREIGN_SIZE = 70


def everything(tree: Any, inclusion: str, consistency: str) -> str:
    """A digest over all roots, audit paths and consistency proofs."""
    state = hashlib.sha256()
    for new in range(1, FOREIGN_SIZE + 1):
        state.update(tree.root(new))
        for old in range(1, new + 1):
            state.update(b"".join(getattr(tree, inclusion)(old - 1, new)))
            state.update(b"".join(getattr(tree, consistency)(old, new)))
    return state.hexdigest()


def test_the_proofs_are_those_of_another_implementation() -> None:
    """Of all sizes, hash by hash."""
    assert everything(Tree(nodes(leaves(FOREIGN_SIZE))), "inclusion", "consistency") == FOREIGN


def test_another_implementation_agrees() -> None:
    """Where it is installed: it still makes them, and accepts ours."""
    other = pytest.importorskip("aics_tlog", reason="aics-tlog needs Python 3.12")
    theirs = other.MerkleTree(b"%d" % number for number in range(FOREIGN_SIZE))
    hashes = leaves(FOREIGN_SIZE)
    tree = Tree(nodes(hashes))

    assert everything(theirs, "inclusion_proof", "consistency_proof") == FOREIGN
    for new in range(1, FOREIGN_SIZE + 1):
        root = tree.root(new)
        for old in range(1, new + 1):
            path, proof = tree.inclusion(old - 1, new), tree.consistency(old, new)
            assert other.verify_inclusion(hashes[old - 1], old - 1, new, path, root)
            assert other.verify_consistency(old, new, tree.root(old), root, proof)

"""Merkle trees as of RFC 6962 section 2.1 (RFC 9162 has the same). Pure functions.

A leaf is given by its hash, and by its index from 0. A proof is a list of hashes, lowest first.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from hashlib import sha256

EMPTY = sha256().digest()
"""The root of a tree without leaves."""

Nodes = Callable[[int, int], bytes]
"""`nodes(level, number)`: the hash over the 2**level leaves from index `number << level` on."""


def join(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\1" + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root over hashes of equal levels. Their number is a power of two."""
    while len(hashes) > 1:
        hashes = [join(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


class Tree:
    """Roots and proofs of all the trees that the first so many leaves of a log make.

    Nothing is kept here: `nodes` is asked for O(log n) hashes each time.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def root(self, size: int) -> bytes:
        """The root of the tree over the first `size` leaves."""
        return self._range(0, size) if size else EMPTY

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of a leaf (2.1.1). Raises ValueError unless it is in the tree."""
        if not 0 <= index < size:
            raise ValueError(f"no leaf {index} in a tree of {size}")
        path: list[bytes] = []
        begin, end = 0, size
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(begin, middle))
                begin = middle
        return path[::-1]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Proof that the tree of `old` leaves is the beginning of that of `new` (2.1.2).

        Empty when there is nothing to prove. Raises ValueError unless 0 <= old <= new.
        """
        if not 0 <= old <= new:
            raise ValueError(f"a tree of {old} is no beginning of one of {new}")
        if old in (0, new):
            return []
        proof: list[bytes] = []
        begin, end = 0, new
        while end != old:
            middle = begin + _split(end - begin)
            if old <= middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(begin, middle))
                begin = middle
        if begin:  # otherwise it is the old root, which the verifier has
            proof.append(self._range(begin, end))
        return proof[::-1]

    def _range(self, begin: int, end: int) -> bytes:
        """The hash over leaves of a subtree, the ragged ones at the right edge included."""
        hashes = [self._nodes(level, number) for level, number in cover(begin, end)]
        return reduce(lambda right, left: join(left, right), reversed(hashes))


def cover(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest complete subtrees that hold the leaves begin..end-1, as (level, number)."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        yield level, begin >> level
        begin += 1 << level


class Fold:
    """The root over complete subtrees that come in order. Keeps O(log n) hashes."""

    def __init__(self) -> None:
        self.size = 0  #: leaves so far
        self._hashes: list[bytes] = []

    def add(self, hash_: bytes, level: int = 0) -> None:
        """The next 2**level leaves. Raises ValueError where no such subtree can begin."""
        if self.size & ((1 << level) - 1):
            raise ValueError(f"no subtree of level {level} begins at leaf {self.size}")
        number = self.size >> level
        while number & 1:
            hash_ = join(self._hashes.pop(), hash_)
            number >>= 1
        self._hashes.append(hash_)
        self.size += 1 << level

    @property
    def root(self) -> bytes:
        if not self._hashes:
            return EMPTY
        return reduce(lambda right, left: join(left, right), reversed(self._hashes))


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows that the leaf is in the tree (RFC 9162, 2.1.3.2)."""
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


def consistent(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the new tree begins with the old one (RFC 9162, 2.1.4.2)."""
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


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1

"""Sets of positions as runs, against sets of numbers."""

from itertools import pairwise

from hypothesis import given, strategies as st

from eventstore.runs import Runs, runs

some_runs = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair)))
)


@given(st.sets(st.integers(1, 60)))
def test_positions_become_the_fewest_runs(positions: set[int]) -> None:
    """The runs hold the same positions, and no two of them touch."""
    found = runs(sorted(positions))

    assert {n for first, last in found for n in range(first, last + 1)} == positions
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))


@given(some_runs)
def test_runs_are_a_set(given_runs: list[tuple[int, int]]) -> None:
    """In whatever order runs are added and however they overlap, the set is their union."""
    union = {n for first, last in given_runs for n in range(first, last + 1)}
    held = Runs(given_runs)

    assert [n for n in range(60) if n in held] == sorted(union)
    assert list(held) == runs(sorted(union))
    assert bool(held) == bool(union)

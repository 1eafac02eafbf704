"""What the document says about texts, held against the conditions themselves."""

import re

import pytest
from hypothesis import example, given, strategies as st

from api.openapi.formats import FORMATS, conditions
from projections import checks
from projections.checks import Check

PATTERNS = [
    pytest.param(check, str(said["pattern"]), id=check.__name__)
    for check, said in FORMATS.items()
    if "pattern" in said
]
TEXTS = st.text(min_size=1) | st.text("aZ09-._~/:%@[]{}*, \n\u2003é", min_size=1)


@pytest.mark.parametrize(("check", "pattern"), PATTERNS)
@given(value=TEXTS)
@example("fe80::1%eth0")
@example("[::1]")
@example("HTTPS://é.example/\u2003")
@example("GET")
@example("~/x")
@example("*")
def test_what_a_pattern_refuses_is_refused(check: Check, pattern: str, value: str) -> None:
    """Nobody who follows the document misses something that is accepted."""
    if re.search(pattern, value) is None:
        assert check(value) is not None


def test_conditions_without_a_pattern_are_said_in_words() -> None:
    """By the first line of their docstrings."""
    assert dict(conditions([checks.target])) == {
        "description": "A host or address, with or without a port."
    }
    assert dict(conditions([])) == {}

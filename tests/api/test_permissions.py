"""What permissions come to: the most specific one that says something decides."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, strategies as st

from api.permissions import Permission, Permissions, action_of, segments

ACTIONS = ("read", "create", "update", "delete")
PATHS = ("/a", "/a/b", "/a/b/c", "/b", "/b/a", "/")
ENDPOINTS = ("*", "/*", "/a", "/a/*", "/*/b", "/a/b", "/*/*", "/a/b/c", "/a/*/c", "/*/*/*")
HERE, THERE = "here", "there"

permissions = st.builds(
    Permission,
    workspace=st.sampled_from(["*", HERE, THERE]),
    endpoint=st.sampled_from(ENDPOINTS),
    actions=st.sets(st.sampled_from(ACTIONS), min_size=1).map(frozenset),
    negative=st.booleans(),
)
several = st.lists(permissions, max_size=8)
paths = st.sampled_from(PATHS)
actions = st.sampled_from(ACTIONS)


def may(workspace: str, endpoint: str, *actions: str, negative: bool = False) -> Permission:
    return Permission(
        workspace=workspace,
        endpoint=endpoint,
        actions=frozenset(actions or ACTIONS),
        negative=negative,
    )


def must_not(workspace: str, endpoint: str, *actions: str) -> Permission:
    return may(workspace, endpoint, *actions, negative=True)


def fits(endpoint: str, path: str) -> bool:
    """The same as in the code under test, spelt out."""
    if endpoint == "*":
        return True
    want, given = endpoint.split("/"), path.split("/")
    return len(want) == len(given) and all(
        one in ("*", other) for one, other in zip(want[1:], given[1:], strict=True)
    )


def documented(permissions: Iterable[Permission], workspace: str, path: str, action: str) -> bool:
    """Kong's four steps, one after the other."""
    said = [p for p in permissions if action in p.actions and fits(p.endpoint, path)]
    steps = [
        [p for p in said if p.endpoint != "*" and p.workspace == workspace],
        [p for p in said if p.endpoint != "*" and p.workspace == "*"],
        [p for p in said if p.endpoint == "*" and p.workspace == workspace],
        [p for p in said if p.endpoint == "*" and p.workspace == "*"],
    ]
    for step in filter(None, steps):
        fewest = min(p.endpoint.count("*") for p in step)
        return not any(p.negative for p in step if p.endpoint.count("*") == fewest)
    return False


@given(several, paths, actions)
def test_the_order_of_precedence_is_kongs(
    given_ones: list[Permission], path: str, action: str
) -> None:
    """Endpoint before workspace, named before any; a denial wins between equals."""
    decided = Permissions(given_ones).allow(HERE, path, action)

    assert decided is documented(given_ones, HERE, path, action)


@given(several, paths, actions, st.randoms())
def test_the_order_of_permissions_means_nothing(
    given_ones: list[Permission], path: str, action: str, random: Random
) -> None:
    """Roles are a set: whichever was given first."""
    shuffled = sorted(given_ones, key=lambda _: random.random())

    assert Permissions(given_ones).allow(HERE, path, action) is Permissions(shuffled).allow(
        HERE, path, action
    )


@given(several, paths, actions)
def test_permissions_for_one_workspace_are_none_for_another(
    given_ones: list[Permission], path: str, action: str
) -> None:
    """Whatever is granted elsewhere opens nothing here, nor everywhere."""
    elsewhere = [p for p in given_ones if p.workspace == THERE]

    assert not Permissions(elsewhere).allow(HERE, path, action)
    assert not Permissions(elsewhere).allow(None, path, action)
    assert not Permissions(elsewhere).allow_everywhere(path, action)


@given(several, paths, actions)
def test_what_holds_everywhere_holds_in_each_workspace(
    given_ones: list[Permission], path: str, action: str
) -> None:
    """Also in one that nobody has thought of yet."""
    permissions = Permissions(given_ones)

    if permissions.allow_everywhere(path, action):
        assert permissions.allow(HERE, path, action)
        assert permissions.allow(THERE, path, action)
        assert permissions.allow(None, path, action)


@given(several, paths, actions)
def test_a_denial_of_the_very_endpoint_is_final(
    given_ones: list[Permission], path: str, action: str
) -> None:
    """Nothing is more specific, so no grant helps."""
    denied = Permissions([*given_ones, must_not(HERE, path, action)])

    assert not denied.allow(HERE, path, action)


@given(several, paths, actions)
def test_permissions_say_nothing_about_other_actions(
    given_ones: list[Permission], path: str, action: str
) -> None:
    """Who may only read may not write, and the reverse."""
    others = [p for p in given_ones if action not in p.actions]

    assert not Permissions(others).allow(HERE, path, action)


@pytest.mark.parametrize(
    ("given_ones", "path", "allowed"),
    [
        pytest.param([], "/a", False, id="nothing is granted"),
        pytest.param([may("*", "*")], "/a/b/c/d/e/f/g", True, id="everything is granted"),
        pytest.param([may(HERE, "/a/*")], "/a", False, id="a wildcard is a segment, not none"),
        pytest.param([may(HERE, "/a/*")], "/a/b/c", False, id="and not two"),
        pytest.param(
            [may("*", "*"), must_not(HERE, "/a/*")], "/a/b", False, id="a path wins over any"
        ),
        pytest.param(
            [must_not("*", "/a/*"), may("*", "/a/b")],
            "/a/b",
            True,
            id="a name wins over a wildcard",
        ),
        pytest.param(
            [may(HERE, "*"), must_not("*", "/a")],
            "/a",
            False,
            id="the endpoint before the workspace",
        ),
        pytest.param(
            [must_not("*", "*"), may(HERE, "*")], "/a", True, id="this workspace before any"
        ),
        pytest.param(
            [may("*", "*"), must_not("*", "/r/*/*/*/*/*")],
            "/r/1/2/3/4/5/6/7",
            False,
            id="the last part of six has the rest",
        ),
    ],
)
def test_examples(given_ones: list[Permission], path: str, *, allowed: bool) -> None:
    """The rules, one by one."""
    assert Permissions(given_ones).allow(HERE, path, "read") is allowed


def test_an_exception_for_one_workspace_is_not_everywhere() -> None:
    """What may be done everywhere but there may not be done to all at once."""
    permissions = Permissions([may("*", "*"), must_not(THERE, "*")])

    assert permissions.allow(HERE, "/a", "read")
    assert not permissions.allow_everywhere("/a", "read")


def test_a_permission_whose_body_was_erased_permits_nothing() -> None:
    """Only its id is left of it."""
    permissions = Permissions([Permission.of({"id": "x"})])

    assert not permissions.allow(HERE, "/", "read")
    assert not permissions.allow("", "/", "read")


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "read"),
        ("HEAD", "read"),
        ("OPTIONS", "read"),
        ("POST", "create"),
        ("PUT", "update"),
        ("PATCH", "update"),
        ("DELETE", "delete"),
        ("BREW", "update"),
    ],
)
def test_methods_are_actions(method: str, action: str) -> None:
    """Kong's words; a method that nobody knows is no reading."""
    assert action_of(method) == action


def test_a_path_has_six_parts_at_most() -> None:
    """What comes after them belongs to the last."""
    assert segments("/") == ("",)
    assert segments("/a/b") == ("a", "b")
    assert segments("/a/b/c/d/e/f/g") == ("a", "b", "c", "d", "e", "f/g")

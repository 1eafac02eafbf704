"""What exists from the start."""

import pytest

from api.validation import validated
from projections.built_in import ENTITIES, SUPER_ADMIN, role_id
from projections.stored import restore, store
from projections.tables import TABLES


@pytest.mark.parametrize("stream", ENTITIES)
def test_what_is_built_in_could_have_been_created(stream: str) -> None:
    """Each is a valid entity of its table, in the form in which entities are stored."""
    record = TABLES[stream.partition("/")[0]].record
    whole = restore(record, ENTITIES[stream], {})

    assert validated(TABLES[stream.partition("/")[0]], whole) == whole
    assert store(record, whole) == (ENTITIES[stream], {})


def test_built_in_ids_are_the_same_everywhere() -> None:
    """References to them outlive a rebuild and a restore, so no release may change them."""
    assert SUPER_ADMIN == role_id("super-admin") == "46d4ca27-fff9-556d-9742-f19b35262ae7"
    assert role_id("admin") == "f50fad13-fd7e-5954-8106-3607829e56dc"
    assert role_id("read-only") == "7bb9bf32-0319-5ec8-8302-16dbb8b90a4e"

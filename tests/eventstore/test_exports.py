"""Exports: what is in them, what is not, and that they hold."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from eventstore import (
    Append,
    EventLog,
    Kind,
    LogDamaged,
    LogDiverged,
    Truncated,
    new_event,
    signing,
)
from eventstore.audit_source import log_id, reading_from
from eventstore.events import ERASURE_STREAM, EventsErased
from eventstore.exports import export
from eventstore.inspection import inspect
from eventstore.proofs import facts, position, prove
from eventstore.segment import Line, decode_line, encode_line, read_lines
from eventstore.selection import Selection
from tests.eventstore.audited import (
    CONSUMERS,
    HOOK,
    OTHER,
    SECRET,
    exported,
    grow,
    key,
    lines,
    log_with_everything,
    verified,
)
from tests.eventstore.samples import truncate


@pytest.fixture
def data(directory: Path) -> Path:
    return log_with_everything(directory)


def positions(path: Path) -> list[int]:
    return [line["envelope"][0] for line in lines(path) if "envelope" in line]


def change(directory: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.execute("DROP TRIGGER event_only_erase")
        connection.execute(sql, values)


def test_everything_is_exported_and_holds(data: Path) -> None:
    """All positions, a checkpoint of all of them, and the verifier says so."""
    path = exported(data)
    code, words = verified(path, key(data))

    assert positions(path) == list(range(1, 11))
    assert code == 0
    assert words.startswith("OK: 10 events of positions 1 to 10 in log ")
    assert words.endswith(" of 10; 2 bodies withheld, 0 erased; nothing left out\n")


def test_secrets_are_in_no_file_of_an_export(data: Path) -> None:
    """The body and its salt are withheld; what may be shown of it is there, without secrets."""
    path = exported(data)
    content = b"".join(json.dumps(line).encode() for line in lines(path))
    content += b"".join(file.read_bytes() for file in path.iterdir())
    created = lines(path)[0]

    assert SECRET.encode() not in content
    assert created.keys() == {"envelope", "body_digest", "shown"}
    assert created["shown"] == {
        "entity": {"id": HOOK, "source": "shop", "config": {"url": "http://x/"}}
    }


def test_the_lines_are_those_of_the_log(data: Path) -> None:
    """An export can be read back into the very events."""
    path = exported(data)
    contents = json.loads((path / "manifest.json").read_bytes())["events"]
    found = read_lines(path / contents["file"], size=contents["size"], digest=contents["sha256"])
    read = [decode_line(line) for line in found]
    with closing(sqlite3.connect(data / "log.db")) as connection:
        rows = connection.execute(
            "SELECT seq, stream, version, event_id, type, schema_version, kind, time_us, wall_us, "
            "workspace, actor, request_id, subject, body_digest, salt, body FROM event"
        ).fetchall()

    for line, row in zip(read, rows, strict=True):
        whole = Line(columns=row[:13], body_digest=row[13], salt=row[14], body=row[15])
        assert line.leaf == whole.leaf
        assert line.shown is not None or encode_line(line) == encode_line(whole)


@pytest.mark.parametrize(
    ("selected", "found"),
    [
        ({"first": 3, "last": 5}, [3, 4, 5]),
        ({"first": 9}, [9, 10]),
        ({"last": 99}, list(range(1, 11))),
        ({"workspace": "two"}, [3, 4, 5, 10]),
        ({"actor": "ops"}, [7, 8, 9]),
        ({"hook": HOOK}, [1, 6, 7, 9]),
        ({"entity": "consumers"}, [2, 8]),
        ({"entity": CONSUMERS}, [2, 8]),
        ({"entity": "consumer"}, []),
        ({"kinds": [Kind.DELIVERY]}, [6, 9]),
        ({"kinds": [Kind.DELIVERY, Kind.CONFIG], "actor": "ops", "last": 8}, [7, 8]),
        ({"since_us": 2**60}, []),
        ({"until_us": 2**60, "hook": OTHER}, []),
    ],
)
def test_what_is_selected_is_exported(
    data: Path, selected: dict[str, Any], found: list[int]
) -> None:
    """Ranges and filters, alone and together; each part proves its place in the whole log."""
    path = exported(data, **selected)
    code, words = verified(path, key(data))

    assert positions(path) == found
    assert code == 0, words


def test_times_select(data: Path) -> None:
    """From the log's own time on, and up to it."""
    times = {line["envelope"][0]: line["envelope"][7] for line in lines(exported(data, "all"))}
    path = exported(data, since_us=times[3], until_us=times[4])

    assert positions(path) == [3, 4]


@settings(max_examples=20)
@given(data=st.data())
def test_any_range_of_a_large_log_holds(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Across tiles, with what is left out on either side."""
    directory = tmp_path_factory.mktemp("log") / "data"
    size = data.draw(st.integers(10, 900))
    log_with_everything(directory, size - 10)
    first = data.draw(st.integers(1, size))
    last = data.draw(st.integers(first, size))
    path = exported(directory, first=first, last=last)
    code, words = verified(path, key(directory))

    assert code == 0, words
    assert positions(path) == list(range(first, last + 1))


def test_without_bodies_nothing_of_them_is_shown(data: Path) -> None:
    """Envelopes and digests only, and it still holds."""
    path = data.with_name("export")
    export(data, path, Selection(), bodies=False)

    assert {tuple(line) for line in lines(path)} == {("envelope", "body_digest")}
    assert verified(path, key(data))[0] == 0


def test_an_erased_body_is_counted(data: Path) -> None:
    """The event has its place without it."""
    change(data, "UPDATE event SET salt = NULL, body = NULL WHERE seq = 4")
    code, words = verified(exported(data), key(data))

    assert code == 0
    assert "2 bodies withheld, 1 erased" in words


def test_an_erased_event_names_its_erasure(data: Path) -> None:
    """By the position of the event that says why the body is gone."""

    async def erase() -> None:
        said = EventsErased(what="event", key="k", reason="asked to", runs=[(3, 4)], count=2)
        event = new_event(said, stream=ERASURE_STREAM, kind=Kind.SYSTEM)
        async with EventLog.open(data) as log:
            await log.append(Append(events=(event,), erase=((3, 4),)))

    anyio.run(erase)
    grow(data, 1)
    erased = [line for line in lines(exported(data)) if "erased" in line]

    assert [(line["envelope"][0], line["erased"]) for line in erased] == [(3, 11), (4, 11)]
    assert erased[0].keys() == {"envelope", "body_digest", "erased"}


def test_the_next_export_proves_the_log_only_grew(data: Path) -> None:
    """From the last one by itself, and from any checkpoint that is handed in."""
    first = exported(data, "first")
    since = json.loads((first / "manifest.json").read_bytes())["checkpoint"]
    kept = data.with_name("kept")
    kept.write_text(since)
    grow(data, 300)
    second = exported(data, "second")
    grow(data, 5)
    third = data.with_name("third")
    export(data, third, Selection(), since=since)

    assert verified(second, key(data))[1].endswith("; it grew from the earlier checkpoint of 10\n")
    for path in (second, third):
        code, words = verified(path, key(data), "--since", str(kept))
        assert code == 0
        assert words.endswith("; it grew from the given checkpoint of 10\n")
    code, words = verified(first, key(data), "--since", str(kept))
    assert (code, words) == (
        1,
        "NOT VALID: there is no consistency proof from your checkpoint of 10\n",
    )


def test_a_log_with_another_past_is_not_exported(data: Path) -> None:
    """The checkpoint handed in is this log's, and the tree no longer has its root."""
    signer = signing.load(data / "keys.db", log_id(data))
    with pytest.raises(LogDiverged, match="of 5 events is not of this log's past"):
        export(data, data.with_name("x"), Selection(), since=signer.checkpoint(5, bytes(32)))
    with pytest.raises(LogDiverged, match="of 11 events"):
        export(data, data.with_name("x"), Selection(), since=signer.checkpoint(11, bytes(32)))
    with pytest.raises(ValueError, match="not a signed note"):
        export(data, data.with_name("x"), Selection(), since="rubbish")

    assert not data.with_name("x").exists()


def test_a_last_export_that_does_not_fit_is_told(data: Path) -> None:
    """A restored log does not quietly begin a new past; the file to delete is named."""
    signer = signing.load(data / "keys.db", log_id(data))
    for note in ("rubbish", signer.checkpoint(5, bytes(32))):
        (data / "exported.note").write_text(note)

        with pytest.raises(LogDiverged, match=r"the last export: .* delete .*/exported\.note"):
            exported(data)
    (data / "exported.note").unlink()
    assert verified(exported(data), key(data))[0] == 0


def test_a_log_that_is_truncated_meanwhile_is_not_exported(data: Path) -> None:
    """No part of a selection is left out in silence."""
    with pytest.raises(Truncated):
        export(
            data,
            data.with_name("export"),
            Selection(kinds=[Kind.EMITTED]),
            progress=lambda _done, _total: truncate(data, 4),
        )

    assert not data.with_name("export").exists()


def test_below_the_floor_there_is_a_typed_error(data: Path) -> None:
    """Asked for by position it is refused; everything is everything there is, and says so."""
    truncate(data, 5)
    with pytest.raises(Truncated, match="positions below 6"):
        exported(data, first=5)
    path = exported(data)
    code, words = verified(path, key(data))

    assert positions(path) == [6, 7, 8, 9, 10]
    assert code == 0
    assert "positions 6 to 10" in words


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("UPDATE event SET actor = 'me' WHERE seq = 4", "position 4"),
        ("UPDATE event SET body = x'7b7d' WHERE seq = 4", "position 4"),
        ("UPDATE event SET leaf = salt WHERE seq = 4", "position 4"),
        ("DELETE FROM event WHERE seq = 4", "position 4 is missing"),
    ],
)
def test_a_damaged_log_is_not_exported(data: Path, sql: str, reason: str) -> None:
    """The position is named, and no half export is left."""
    with closing(sqlite3.connect(data / "log.db")) as connection, connection:
        connection.execute("DROP TRIGGER event_only_truncate")
    change(data, sql)

    with pytest.raises(LogDamaged, match=reason):
        exported(data)
    assert sorted(path.name for path in data.parent.iterdir()) == ["data"]


def test_an_event_that_was_replaced_with_its_leaf_is_found(data: Path) -> None:
    """Consistent in itself, but not what was signed."""
    with closing(sqlite3.connect(data / "log.db")) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM event WHERE seq = 4").fetchone()
    line = Line(columns=(*row[:10], "me", *row[11:13]), body_digest=row["body_digest"])
    change(data, "UPDATE event SET actor = 'me', leaf = ? WHERE seq = 4", line.leaf)

    with pytest.raises(LogDamaged, match="not those of the checkpoint"):
        exported(data)


def test_an_export_is_written_once(data: Path) -> None:
    """What is there already is left alone."""
    path = exported(data)
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    with pytest.raises(FileExistsError):
        exported(data)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


@pytest.mark.parametrize("name", ["log.db", "audit.db", "keys.db"])
def test_nothing_is_exported_from_nothing(data: Path, name: str) -> None:
    """The file that is missing is named, and not made."""
    (data / name).unlink()

    with pytest.raises(LogDamaged, match=f"there is no {name}"):
        exported(data)
    assert not (data / name).exists()


def test_single_events_are_proved(data: Path) -> None:
    """By position or id; the proof leads to the signed root, and hides secrets."""
    path = data.with_name("proof")
    with reading_from(data) as source:
        id_ = lines(exported(data))[3]["envelope"][3]
        path.write_bytes(prove(source, [1, position(source, id_), position(source, "10")]))
        with pytest.raises(ValueError, match="no position 11"):
            prove(source, [11])
        with pytest.raises(ValueError, match="no event"):
            position(source, "0" * 32)
    code, words = verified(path, key(data))

    assert code == 0
    assert words.startswith("OK: positions 1, 4, 10 are in log ")
    assert SECRET not in path.read_text()


def test_a_delivery_is_proved_by_what_the_log_says_of_it(data: Path) -> None:
    """The receipt whose range it is in; not for one that was left open, or of another hook."""
    with reading_from(data) as source:
        assert facts(source, HOOK, 3) == [6]
        assert facts(source, HOOK, 4) == [6]
        assert facts(source, HOOK, 5) == []
        assert facts(source, HOOK, 2) == []
        assert facts(source, OTHER, 3) == []


def test_a_compacted_event_is_not_proved(data: Path) -> None:
    """Its line is in the archive, not here."""
    truncate(data, 5)

    with reading_from(data) as source, pytest.raises(Truncated):
        prove(source, [5])


@settings(max_examples=15)
@given(data=st.data())
def test_old_checkpoints_hold_after_compaction_and_erasure(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was erased and truncated since: the log still grew from them, and verifies."""
    directory = tmp_path_factory.mktemp("log") / "data"
    size = data.draw(st.integers(10, 700))
    log_with_everything(directory, size - 10)
    kept = directory.with_name("kept")
    with reading_from(directory) as source:
        kept.write_text(source.checkpoint)
    erased = data.draw(st.sets(st.integers(1, size)))
    change(
        directory,
        "UPDATE event SET salt = NULL, body = NULL WHERE seq IN (SELECT value FROM json_each(?))",
        json.dumps(sorted(erased)),
    )
    truncate(directory, data.draw(st.integers(0, size - 1)))
    grow(directory, data.draw(st.integers(1, 300)))
    path = directory.with_name("export")
    export(directory, path, Selection(), since=kept.read_text())
    code, words = verified(path, key(directory), "--since", str(kept))

    assert code == 0, words
    assert inspect(directory).problems == []


def test_after_a_rotation_old_and_new_keys_verify(data: Path) -> None:
    """Whoever has the old key follows the endorsement; the new one alone is enough as well."""
    old = key(data)
    signing.rotate(data, log_id(data))
    new = key(data)
    path = exported(data)

    assert old != new
    assert verified(path, old)[0] == 0
    assert verified(path, new)[0] == 0

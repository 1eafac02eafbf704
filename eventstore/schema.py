"""log.db as SQL: tables, what each column is for, and every index with the query it serves."""

APPLICATION_ID = 0x486B5470
"""`HkTp` in the file's header: tells a log from any other SQLite file."""

EVENTS = """
CREATE TABLE meta(
  -- log_id, created_us, key_check (proof that keys.db belongs here), truncated_to
  key   TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event(
  seq            INTEGER PRIMARY KEY AUTOINCREMENT, -- commit order, no holes, never used twice
  stream         TEXT    NOT NULL,                  -- opaque names only
  version        INTEGER NOT NULL,                  -- 0, 1, 2, ... within the stream
  event_id       BLOB    NOT NULL,                  -- UUIDv7 made of time_us: increases with seq
  type           TEXT    NOT NULL,
  schema_version INTEGER NOT NULL,                  -- of the body
  kind           INTEGER NOT NULL,                  -- records.Kind
  time_us        INTEGER NOT NULL,                  -- the log's clock: max(previous + 1, wall_us)
  wall_us        INTEGER NOT NULL,                  -- the wall clock as it was read
  workspace      TEXT    NOT NULL,
  actor          TEXT,
  request_id     TEXT,
  subject        BLOB,                              -- keyed digest of the person it is about
  salt           BLOB,                              -- 32 random bytes, erased with the body
  body_digest    BLOB    NOT NULL,                  -- HMAC-SHA256(salt, body), outlives both
  leaf           BLOB    NOT NULL,                  -- SHA-256(0x00 || envelope || body_digest)
  body           BLOB,                              -- last, so that no other column overflows
  CHECK ((salt IS NULL) = (body IS NULL))
) STRICT;

-- Serves read_stream, and holds the line on versions. Emitted events stay out of it: nobody reads
-- them by stream, the writer alone numbers them, and the index would halve the speed of appending.
CREATE UNIQUE INDEX event_stream ON event(stream, version) WHERE kind <> 1;

-- Serves read(kinds=...) and the last configuration event: few among millions of emitted ones.
CREATE INDEX event_kind ON event(kind, seq) WHERE kind <> 1;

-- Stream heads. Outlives truncation, so a stream keeps its version when its events are gone.
CREATE TABLE stream(
  name     TEXT PRIMARY KEY,
  version  INTEGER NOT NULL,
  last_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Idempotency keys and callers' event ids, as keyed digests. Outlives truncation and erasure.
CREATE TABLE identity(
  digest  BLOB PRIMARY KEY,  -- of the key or id with its scope
  request BLOB    NOT NULL,  -- of the content it came with
  first   INTEGER NOT NULL,  -- position of the first event stored under it
  count   INTEGER NOT NULL   -- how many, in a row
) STRICT, WITHOUT ROWID;

INSERT INTO meta VALUES ('truncated_to', 0);

CREATE TRIGGER event_only_erase BEFORE UPDATE ON event
WHEN NOT (
  NEW.salt IS NULL AND NEW.body IS NULL
  AND NEW.seq IS OLD.seq AND NEW.stream IS OLD.stream AND NEW.version IS OLD.version
  AND NEW.event_id IS OLD.event_id AND NEW.type IS OLD.type
  AND NEW.schema_version IS OLD.schema_version AND NEW.kind IS OLD.kind
  AND NEW.time_us IS OLD.time_us AND NEW.wall_us IS OLD.wall_us
  AND NEW.workspace IS OLD.workspace AND NEW.actor IS OLD.actor
  AND NEW.request_id IS OLD.request_id AND NEW.subject IS OLD.subject
  AND NEW.body_digest IS OLD.body_digest AND NEW.leaf IS OLD.leaf
)
BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: only salt and body can be erased');
END;

-- The newest event always stays: the next position, time and id go on from it.
CREATE TRIGGER event_only_truncate BEFORE DELETE ON event
WHEN OLD.seq > (SELECT value FROM meta WHERE key = 'truncated_to')
  OR OLD.seq = (SELECT max(seq) FROM event)
BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: only truncated positions can be deleted');
END;
"""

MIGRATIONS = (EVENTS,)
"""One script per `user_version`. Scripts that were released never change."""

RECORD = (
    "seq, stream, version, event_id, type, schema_version, kind, time_us, wall_us, "
    "workspace, actor, request_id, subject, body"
)
"""The columns of a RecordedEvent, in its order."""

_EVENTS = f"SELECT {RECORD} FROM event WHERE "  # noqa: S608 - a constant, as everything here

READ = _EVENTS + "seq > ? AND seq <= ? ORDER BY seq LIMIT ?"

READ_PACKED = (
    "SELECT CAST(json_group_array(json_array(seq, stream, version, hex(event_id), type, "
    "schema_version, kind, time_us, wall_us, workspace, actor, request_id, hex(subject), "
    "CAST(body AS TEXT), length(body))) AS BLOB) "
    "FROM (" + READ + ")"
)
"""A whole page as one row, in the order of RECORD and with the length of the body."""

PAGE_BYTES = "SELECT total(length(body)) FROM event WHERE seq > ? AND seq <= ?"
"""Reads no body: its length is in the row's header."""

READ_SOME_KINDS = (
    _EVENTS + "kind IN (SELECT value FROM json_each(?)) "  # noqa: S608
    "AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
"""For sets of kinds with emitted events in them: most rows match, so the table is walked."""

_READ_ONE_KIND = _EVENTS + "kind = ? AND kind <> 1 AND seq > ? AND seq <= ?"
"""`kind <> 1` opens the way to the partial index: SQLite does not see that it follows."""


def read_rare_kinds(count: int) -> str:
    """For sets of kinds without emitted events: one walk of the index per kind, merged."""
    return " UNION ALL ".join([_READ_ONE_KIND] * count) + " ORDER BY seq LIMIT ?"


READ_STREAM = (
    _EVENTS + "stream = ? AND version > ? AND seq >= ? AND kind <> 1 ORDER BY version LIMIT ?"
)

EVENT_AT = _EVENTS + "seq = ?"
EVENT_ID_AT = "SELECT event_id FROM event WHERE seq = ?"
LEAF_AT = "SELECT leaf FROM event WHERE seq = ?"
NEWEST = "SELECT seq, time_us, leaf FROM event ORDER BY seq DESC LIMIT 1"
NEWEST_CONFIG = "SELECT max(seq) FROM event WHERE kind = 0 AND kind <> 1"
STREAM_VERSIONS = "SELECT name, version FROM stream WHERE name"
IDENTITIES = "SELECT digest, request, first, count FROM identity WHERE digest"
META = "SELECT value FROM meta WHERE key = ?"
SET_META = "INSERT INTO meta VALUES (?, ?)"
PUT_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
MOVE_META = "UPDATE meta SET value = max(value, ?) WHERE key = ?"

DELETE_TRUNCATED = (
    "DELETE FROM event WHERE seq IN (SELECT seq FROM event"
    " WHERE seq <= (SELECT value FROM meta WHERE key = 'truncated_to') ORDER BY seq LIMIT ?)"
)

COPIES = ("delivery_failed", "delivery_parked", "delivery_skipped", "request_queued")
"""Types whose body tells of another event, which they name in `seq`: they are erased with it."""

_ERASABLE = f"(kind < 2 OR (kind = 2 AND type IN {COPIES})) AND seq <= ?"
"""Neither the log's own events nor receipts and orders: they say nothing of what happened."""

_FOUND = (
    "seq, length(body), CASE kind WHEN 0 THEN substr(stream, 1, instr(stream, '/'))"
    " WHEN 1 THEN stream ELSE '' END"
)

CHOSEN = {
    what: f"SELECT {_FOUND} FROM event WHERE {column} = ? AND {_ERASABLE}"  # noqa: S608
    for what, column in {"event": "seq", "subject": "subject", "workspace": "workspace"}.items()
}
CHOSEN["event"] += " AND (kind < 2 OR type = 'request_queued')"
"""What is to be erased, and whether it was: the size of its body. No copy goes by itself: what it
was copied for would be made again.
"""

BODIES = (
    f"SELECT {_FOUND} FROM event"  # noqa: S608
    f" WHERE seq BETWEEN ? AND ? AND body IS NOT NULL AND {_ERASABLE}"
)
COPIES_AFTER = (
    "SELECT seq, length(body), '', json_extract(CAST(body AS TEXT), '$.seq') FROM event"  # noqa: S608
    f" WHERE kind = 2 AND kind <> 1 AND type IN {COPIES} AND seq > ? AND seq <= ?"
    " AND body IS NOT NULL ORDER BY seq"
)
STREAM_AFTER = _EVENTS + "stream = ? AND seq > ? AND kind <> 1 ORDER BY version"
ERASE = (
    "UPDATE event SET salt = NULL, body = NULL"
    " WHERE seq BETWEEN ? AND ? AND (kind <> 3 OR type = 'snapshot_part') AND body IS NOT NULL"
)
MARK_ERASING = "INSERT INTO meta VALUES ('erasing', ?) ON CONFLICT(key) DO NOTHING"
UNMARK_ERASING = "DELETE FROM meta WHERE key = 'erasing'"

TIME_AT = "SELECT time_us FROM event WHERE seq = ?"
FIRST_OF_KIND = "SELECT min(seq) FROM event WHERE kind = ? AND kind <> 1 AND seq >= ?"
FIRST_EMITTED = "SELECT seq FROM event WHERE kind = 1 AND seq >= ? ORDER BY seq LIMIT 1"
SYSTEM_EVENTS = "SELECT count(*) FROM event WHERE kind = 3 AND kind <> 1 AND seq >= ? AND seq < ?"
WEIGHT = "SELECT total(length(body)) FROM event WHERE seq >= ? AND seq < ?"
"""Reads no body: its length is in the row's header."""

EVENT_WIDTH = 17
INSERT_EVENT = "INSERT INTO event"
INSERT_IDENTITY = "INSERT INTO identity"
INSERT_STREAM = "INSERT INTO stream"
MOVE_STREAM = (
    " ON CONFLICT(name) DO UPDATE SET version = excluded.version, last_seq = excluded.last_seq"
)
